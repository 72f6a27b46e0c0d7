/*
 * QMP commands as steps, and what may be expected of them.
 */
#include "scenario/runner_int.h"

#include <stdlib.h>
#include <string.h>

/* Matches `expect error CLASS [TEXT]` against the reply of the command after it. */
static void judge_expected(struct runner *runner, const struct scn_step *step, const Error *err)
{
    const struct scn_step *want = runner->expected_error;
    const char *class_name = step_str(want, "class", "");
    const char *text = step_str(want, "text", NULL);

    runner->expected_error = NULL;
    if (!err) {
        runner_expect_failed(runner, step, "error", "the command succeeded, expected a refusal (%s)", class_name);
    } else if (strcmp(error_class_name(error_get_class(err)), class_name) != 0) {
        runner_expect_failed(runner, step, "error", "refused with %s '%s', expected class %s",
                             error_class_name(error_get_class(err)), error_get_pretty(err), class_name);
    } else if (text && !strstr(error_get_pretty(err), text)) {
        runner_expect_failed(runner, step, "error", "refused with '%s', expected '%s'", error_get_pretty(err),
                             text);
    }
}

void runner_judge_reply(struct runner *runner, const struct scn_step *step, const Error *err)
{
    if (runner->dark) {
        return;
    }
    if (runner->expected_error) {
        judge_expected(runner, step, err);
    } else if (err && !step->try_) {
        runner_expect_failed(runner, step, "refused", "%s: %s", error_class_name(error_get_class(err)),
                             error_get_pretty(err));
    }
}

/* A command in flight; it may outlive the host that does it. */
struct command {
    struct qmp_call call;
    struct runner *runner;
    bool done;
};

static void command_done(struct qmp_call *call)
{
    struct command *c = container_of(call, struct command, call);

    c->done = true;
    coroutine_wake(c->runner->co);
}

static void call_command(struct runner *runner, const struct scn_step *step, const struct qmp_command *command,
                         struct qvalue *args)
{
    struct command c = {
        .call =
            {
                .command = command,
                .args = args,
                .entity = runner_step_entity(runner, step),
                .done = command_done,
            },
        .runner = runner,
    };

    monitor_submit(runner->host, &c.call);
    while (!c.done && !runner->dark) {
        coroutine_yield(runner->sim);
    }
    runner_judge_reply(runner, step, c.call.err);
    qvalue_free(c.call.reply);
    error_free(c.call.err);
}

void scn_run_qmp(struct runner *runner, const struct scn_step *step)
{
    const struct qmp_command *command = qmp_find_command(step->verb->name);
    struct qvalue *args = qvalue_copy(step->args);

    SIM_ASSERT(command);
    call_command(runner, step, command, args);
    qvalue_free(args);
}

void scn_run_json(struct runner *runner, const struct scn_step *step)
{
    const struct qvalue *object = qdict_get(step->args, "json");
    const struct qvalue *execute = qdict_get(object, "execute");
    const struct qvalue *arguments = qdict_get(object, "arguments");
    const struct qmp_command *command = qmp_find_command(execute ? execute->str.bytes : "");
    struct qvalue *args = arguments ? qvalue_copy(arguments) : qvalue_dict();

    SIM_ASSERT(command);
    call_command(runner, step, command, args);
    qvalue_free(args);
}

void runner_judge_unanswered(struct runner *runner)
{
    const struct scn_step *want = runner->expected_error;

    runner->expected_error = NULL;
    if (want) {
        runner_expect_failed(runner, want, "error", "no command came that could be refused (%s)",
                             step_str(want, "class", ""));
    }
}

void scn_run_expect_error(struct runner *runner, const struct scn_step *step)
{
    runner_judge_unanswered(runner);
    runner->expected_error = step;
}
