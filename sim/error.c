/*
 * Error objects: one message and one QMP class.
 */
#include "sim/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/world.h"

struct Error {
    enum error_class error_class;
    char *text;
};

static const char *const class_names[] = {
    [ERROR_CLASS_GENERIC] = "GenericError",
    [ERROR_CLASS_COMMAND_NOT_FOUND] = "CommandNotFound",
    [ERROR_CLASS_DEVICE_NOT_ACTIVE] = "DeviceNotActive",
    [ERROR_CLASS_DEVICE_NOT_FOUND] = "DeviceNotFound",
    [ERROR_CLASS_KVM_MISSING_CAP] = "KVMMissingCap",
};

static char *format(const char *fmt, va_list args)
{
    char *text = NULL;
    int length = vasprintf(&text, fmt, args);

    SIM_ASSERT(length >= 0);
    return text;
}

static char *join(const char *a, const char *b, const char *c)
{
    char *text = NULL;
    int length = asprintf(&text, "%s%s%s", a, b, c);

    SIM_ASSERT(length >= 0);
    return text;
}

/* Takes over text. A second error over a first would hide the cause, so it is a defect of the caller. */
static void set_text(Error **errp, enum error_class error_class, char *text)
{
    if (!errp) {
        free(text);
        return;
    }
    SIM_ASSERT(*errp == NULL);
    *errp = sim_xmalloc(sizeof(**errp));
    **errp = (Error){.error_class = error_class, .text = text};
}

void error_setg(Error **errp, const char *fmt, ...)
{
    va_list args;

    if (!errp) {
        return;
    }
    va_start(args, fmt);
    set_text(errp, ERROR_CLASS_GENERIC, format(fmt, args));
    va_end(args);
}

void error_set(Error **errp, enum error_class error_class, const char *fmt, ...)
{
    va_list args;

    SIM_ASSERT((size_t)error_class < ARRAY_SIZE(class_names));
    if (!errp) {
        return;
    }
    va_start(args, fmt);
    set_text(errp, error_class, format(fmt, args));
    va_end(args);
}

void error_setg_errno(Error **errp, int errnum, const char *fmt, ...)
{
    va_list args;
    char *text;

    if (!errp) {
        return;
    }
    va_start(args, fmt);
    text = format(fmt, args);
    va_end(args);
    set_text(errp, ERROR_CLASS_GENERIC, join(text, ": ", sim_errno_text(errnum)));
    free(text);
}

void error_prepend(Error **errp, const char *fmt, ...)
{
    va_list args;
    char *prefix;
    char *text;

    if (!errp || !*errp) {
        return;
    }
    va_start(args, fmt);
    prefix = format(fmt, args);
    va_end(args);
    text = join(prefix, (*errp)->text, "");
    free(prefix);
    free((*errp)->text);
    (*errp)->text = text;
}

void error_propagate(Error **errp, Error *local)
{
    if (!local) {
        return;
    }
    if (!errp) {
        error_free(local);
        return;
    }
    SIM_ASSERT(*errp == NULL);
    *errp = local;
}

const char *error_get_pretty(const Error *err)
{
    SIM_ASSERT(err != NULL);
    return err->text;
}

enum error_class error_get_class(const Error *err)
{
    SIM_ASSERT(err != NULL);
    return err->error_class;
}

const char *error_class_name(enum error_class error_class)
{
    SIM_ASSERT((size_t)error_class < ARRAY_SIZE(class_names));
    return class_names[error_class];
}

Error *error_copy(const Error *err)
{
    Error *copy = NULL;

    SIM_ASSERT(err != NULL);
    error_set(&copy, err->error_class, "%s", err->text);
    return copy;
}

void error_free(Error *err)
{
    if (err) {
        free(err->text);
        free(err);
    }
}
