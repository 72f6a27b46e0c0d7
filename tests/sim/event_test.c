/* Protects the event stream: its hash, its subscribers and the forms it is written in. */
#include "tests/testlib.h"

#include <jansson.h>

#include "sim/sim.h"
#include "sim/qvalue.h"

static struct sim *world;

static int setup(void **state)
{
    world = sim_new();
    return 0;
}

static int teardown(void **state)
{
    sim_delete(world);
    return 0;
}

static void emit_request(struct host *host, const char *disk, uint64_t req, bool complete, uint64_t last)
{
    const struct sim_name *name = sim_name(world, disk);

    if (complete) {
        SIM_EMIT(world, host, disk_complete, NULL, SIM_P(name), req, SIM_OP_WRITE, 4096, 512, last, 0xabc);
    } else {
        SIM_EMIT(world, host, disk_submit, NULL, SIM_P(name), req, SIM_OP_WRITE, 4096, 512, SIM_P(name), last);
    }
}

static uint64_t hash_of(int records, uint64_t odd)
{
    sim_reset(world);
    for (int i = 0; i < records; i++) {
        emit_request(NULL, i & 1 ? "a" : "b", (uint64_t)i, i & 1, i == records / 2 ? odd : 0);
    }
    return sim_trace_hash(world);
}

static void test_hash(void **state)
{
    for (int records = 0; records < 300; records += 7) {
        uint64_t hash = hash_of(records, 1);

        assert_int_equal(sim_event_count(world), records);
        assert_int_equal(hash, sim_trace_hash(world));
        assert_int_equal(hash, hash_of(records, 1));
        if (records) {
            assert_true(hash != hash_of(records, 2));
            assert_true(hash != hash_of(records + 1, 1));
        }
    }
}

static void test_hash_sees_host_and_time(void **state)
{
    uint64_t plain, hosted, later;

    emit_request(NULL, "a", 1, false, 0);
    plain = sim_trace_hash(world);
    sim_reset(world);
    emit_request(host_new(world, "h"), "a", 1, false, 0);
    hosted = sim_trace_hash(world);
    sim_reset(world);
    sim_run_idle(world, NULL, NULL, 5);
    emit_request(NULL, "a", 1, false, 0);
    later = sim_trace_hash(world);
    assert_true(plain != hosted);
    assert_true(plain != later);
}

static void count_record(void *opaque, const struct sim_record *r)
{
    (*(int *)opaque)++;
    assert_int_equal(r->field_count, sim_event_desc(r->kind)->field_count);
}

static int order[8];
static int order_count;

static void note_a(void *opaque, const struct sim_record *r)
{
    order[order_count++] = 1;
}

static void note_b(void *opaque, const struct sim_record *r)
{
    order[order_count++] = 2;
}

static void once(void *opaque, const struct sim_record *r)
{
    order[order_count++] = 3;
    sim_unsubscribe(world, once, opaque);
}

static void test_subscribers(void **state)
{
    int submits = 0;
    int all = 0;

    order_count = 0;
    sim_subscribe(world, EV_disk_submit, count_record, &submits);
    sim_subscribe_all(world, count_record, &all);
    sim_subscribe(world, EV_disk_submit, note_b, NULL);
    sim_subscribe(world, EV_disk_submit, once, NULL);
    sim_subscribe(world, EV_disk_submit, note_a, NULL);
    emit_request(NULL, "a", 1, false, 0);
    emit_request(NULL, "a", 1, true, 0);
    emit_request(NULL, "a", 2, false, 0);
    assert_int_equal(submits, 2);
    assert_int_equal(all, 3);
    assert_int_equal(order_count, 5);
    assert_memory_equal(order, ((int[]){2, 3, 1, 2, 1}), 5 * sizeof(int));
    sim_unsubscribe(world, count_record, &all);
    emit_request(NULL, "a", 3, false, 0);
    assert_int_equal(submits, 3);
    assert_int_equal(all, 3);
    sim_reset(world);
    emit_request(NULL, "a", 3, false, 0);
    assert_int_equal(submits, 3);
}

static void run_some(void)
{
    struct host *host = host_new(world, "h1");

    emit_request(host, "src", 1, false, 7);
    sim_run_idle(world, NULL, NULL, 1500);
    emit_request(host, "src", 2, false, 8);
    emit_request(NULL, "strange \"name\"\n\xff", 3, false, 9);
    sim_run_idle(world, NULL, NULL, 2 * NS_PER_S + 7);
    emit_request(host, "src", 1, true, (uint64_t)-5);
    SIM_EMIT(world, NULL, power_loss, NULL, SIM_P(sim_name(world, "src")), 3, 1);
}

/* Runs the same events into a sink and returns what it wrote. */
static char *written(void (*sink)(struct sim *sim, FILE *out), void (*end)(struct sim *sim))
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    sink(world, out);
    run_some();
    if (end) {
        end(world);
    }
    sim_reset(world);
    fclose(out);
    return text;
}

static void test_text(void **state)
{
    char *text = written(sim_sink_text, NULL);

    assert_string_equal(
        text,
        "#      1      0.000000000 h1       disk_submit            disk=src req=1 op=write offset=4096 bytes=512 "
        "origin=src number=0000000000000007\n"
        "#      2      0.000001500 h1       disk_submit            disk=src req=2 op=write offset=4096 bytes=512 "
        "origin=src number=0000000000000008\n"
        "#      3      0.000001500 -        disk_submit            disk=\"strange \\\"name\\\"\\n\xef\xbf\xbd\" "
        "req=3 "
        "op=write offset=4096 bytes=512 origin=\"strange \\\"name\\\"\\n\xef\xbf\xbd\" number=0000000000000009\n"
        "#      4      2.000000007 h1       disk_complete          disk=src req=1 op=write offset=4096 bytes=512 "
        "ret=-EIO content=0000000000000abc\n"
        "#      5      2.000000007 -        power_loss             disk=src unflushed=3 kept=1\n");
    free(text);
}

static void test_text_truncates(void **state)
{
    struct sim_record record = {.number = 1, .kind = EV_disk_capacity, .field_count = 2};
    char small[20];
    char large[200];
    size_t need;

    record.field[0] = SIM_P(sim_name(world, "d"));
    need = sim_record_text(world, &record, large, sizeof(large));
    assert_int_equal(need, strlen(large));
    memset(small, 'x', sizeof(small));
    assert_int_equal(sim_record_text(world, &record, small, 10), need);
    assert_int_equal(small[9], '\0');
    assert_int_equal(small[10], 'x');
    assert_int_equal(strncmp(small, large, 9), 0);
}

static void test_json(void **state)
{
    char *text = written(sim_sink_json, NULL);
    int lines = 0;

    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        json_error_t error;
        json_t *json = json_loads(line, JSON_REJECT_DUPLICATES, &error);
        json_t *data;

        assert_non_null(json);
        lines++;
        data = json_object_get(json, "data");
        assert_int_equal(json_integer_value(json_object_get(json, "number")), lines);
        if (lines == 3) {
            assert_true(json_is_null(json_object_get(json, "host")));
            assert_string_equal(json_string_value(json_object_get(data, "disk")), "strange \"name\"\n\xef\xbf\xbd");
        }
        if (lines == 4) {
            assert_string_equal(json_string_value(json_object_get(json, "host")), "h1");
            assert_string_equal(json_string_value(json_object_get(json, "event")), "disk_complete");
            assert_int_equal(json_integer_value(json_object_get(json, "time_ns")), 2 * NS_PER_S + 7);
            assert_int_equal(json_integer_value(json_object_get(data, "ret")), -5);
            assert_string_equal(json_string_value(json_object_get(data, "op")), "write");
            assert_string_equal(json_string_value(json_object_get(data, "content")), "0000000000000abc");
        }
        json_decref(json);
    }
    assert_int_equal(lines, 5);
    free(text);
}

/* Two overlapping requests take two lanes; a span runs from submit to complete, or to the end. */
static void test_timeline(void **state)
{
    char *text = written(sim_sink_timeline, sim_sink_timeline_end);
    json_error_t error;
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    int spans = 0, instants = 0, tracks = 0;
    size_t i;
    json_t *item;

    assert_non_null(json);
    json_array_foreach(json_object_get(json, "traceEvents"), i, item)
    {
        const char *ph = json_string_value(json_object_get(item, "ph"));

        tracks += strcmp(json_string_value(json_object_get(item, "name")), "thread_name") == 0;
        instants += strcmp(ph, "i") == 0;
        if (strcmp(ph, "X") == 0 && spans++ == 0) {
            assert_float_equal(json_number_value(json_object_get(item, "dur")), 2000000.007, 0.0001);
            assert_string_equal(json_string_value(json_object_get(item, "name")), "write");
        }
    }
    assert_int_equal(spans, 3);
    assert_int_equal(instants, 1);
    assert_int_equal(tracks, 3);
    assert_non_null(strstr(text, "\"disk src (2)\""));
    json_decref(json);
    free(text);
}

static void test_table(void **state)
{
    char seen[32];
    enum sim_op op;

    for (int kind = 0; kind < EV_COUNT; kind++) {
        const struct sim_event_desc *desc = sim_event_desc(kind);

        assert_int_equal(sim_event_find(desc->name), kind);
        assert_true(desc->field_count <= SIM_EVENT_FIELDS);
        if (desc->qmp) {
            assert_true(sim_event_find(desc->qmp) >= 0);
        }
    }
    assert_int_equal(sim_event_find("NO_SUCH"), -1);
    for (int i = 0; i < SIM_OP_COUNT; i++) {
        snprintf(seen, sizeof(seen), "%s", sim_op_name(i));
        assert_true(sim_op_parse(seen, &op));
        assert_int_equal(op, i);
    }
    assert_false(sim_op_parse("scribble", &op));
}

static void test_names(void **state)
{
    char text[16];
    const struct sim_name *first = sim_name(world, "n0");

    for (int i = 0; i < 500; i++) {
        snprintf(text, sizeof(text), "n%d", i);
        assert_string_equal(sim_name(world, text)->str, text);
    }
    assert_ptr_equal(sim_name(world, "n0"), first);
    assert_int_equal(first->hash, sim_hash_str("n0"));
    assert_int_equal(sim_arena_live_bytes(sim_arena(world)), 0);
}

static void test_marks(void **state)
{
    sim_mark(world, MARK_disk_enospc);
    sim_mark(world, MARK_disk_enospc);
    assert_int_equal(sim_mark_hits(world, MARK_disk_enospc), 2);
    assert_int_equal(sim_mark_find("disk_enospc"), MARK_disk_enospc);
    assert_int_equal(sim_mark_find("no such"), -1);
    sim_reset(world);
    assert_int_equal(sim_mark_hits(world, MARK_disk_enospc), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T_SETUP("/sim/event/hash", test_hash, setup, teardown),
        T_SETUP("/sim/event/hash-sees-host-and-time", test_hash_sees_host_and_time, setup, teardown),
        T_SETUP("/sim/event/subscribers", test_subscribers, setup, teardown),
        T_SETUP("/sim/event/text", test_text, setup, teardown),
        T_SETUP("/sim/event/text-truncates", test_text_truncates, setup, teardown),
        T_SETUP("/sim/event/json", test_json, setup, teardown),
        T_SETUP("/sim/event/timeline", test_timeline, setup, teardown),
        T_SETUP("/sim/event/table", test_table, setup, teardown),
        T_SETUP("/sim/names", test_names, setup, teardown),
        T_SETUP("/sim/marks", test_marks, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
