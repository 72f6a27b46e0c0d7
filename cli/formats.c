/*
 * What other programs read of a sweep: TAP, JUnit, SARIF.
 */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

static void xml_text(FILE *out, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '<':
            fputs("&lt;", out);
            break;
        case '&':
            fputs("&amp;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        default: /* XML has no place for most control characters */
            fputc((unsigned char)*text < ' ' && *text != '\n' && *text != '\t' ? '?' : *text, out);
        }
    }
}

static void json_text(FILE *out, const char *text)
{
    struct qvalue *value = qvalue_str(text);
    char *json = qvalue_to_json(value);

    fputs(json, out);
    free(json);
    qvalue_free(value);
}

void formats_begin(const struct formats *f, uint64_t total)
{
    if (f->junit) {
        fprintf(f->junit,
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"blksim\" tests=\"%llu\">\n",
                (unsigned long long)total);
    }
    if (f->sarif) {
        fprintf(f->sarif,
                "{\"version\": \"2.1.0\", \"$schema\": \"https://json.schemastore.org/sarif-2.1.0.json\", "
                "\"runs\": [{\"tool\": {\"driver\": {\"name\": \"blksim\"}}, \"results\": [\n");
    }
    if (f->tap) {
        printf("TAP version 13\n1..%llu\n", (unsigned long long)total);
    }
}

static void sarif_result(struct formats *f, const char *name, bool is_file, const struct violation *v)
{
    fprintf(f->sarif, "%s{\"ruleId\": ", f->sarif_results++ ? ",\n" : "");
    json_text(f->sarif, v->signature);
    fprintf(f->sarif, ", \"level\": \"error\", \"message\": {\"text\": ");
    json_text(f->sarif, v->detail);
    fprintf(f->sarif, "}, \"locations\": [{%s: ",
            is_file ? "\"physicalLocation\": {\"artifactLocation\": {\"uri\"" : "\"logicalLocations\": [{\"name\"");
    json_text(f->sarif, name);
    fprintf(f->sarif, "%s}]}", is_file ? "}}" : "}]");
}

void formats_result(struct formats *f, uint64_t index, const char *name, bool is_file, const struct run_result *r)
{
    const struct violation *v = r->violations;
    bool ok = r->verdict == VERDICT_PASS;

    if (f->tap) {
        printf("%sok %llu - %s\n", ok ? "" : "not ", (unsigned long long)index + 1, name);
    }
    if (f->junit) {
        fprintf(f->junit, "  <testcase classname=\"blksim\" name=\"");
        xml_text(f->junit, name);
        fprintf(f->junit, "\">");
        if (!ok) {
            fprintf(f->junit, "<failure message=\"");
            xml_text(f->junit, v ? v->signature : "error");
            fprintf(f->junit, "\">");
            xml_text(f->junit, v ? v->detail : r->error ? r->error : "");
            fprintf(f->junit, "</failure>");
        }
        fprintf(f->junit, "</testcase>\n");
    }
    if (f->sarif && !ok && v) {
        sarif_result(f, name, is_file, v);
    }
}

void formats_end(const struct formats *f, bool broke_off)
{
    if (f->tap && broke_off) {
        printf("Bail out! as many failures as --max-failures allows\n");
    }
    if (f->junit) {
        fprintf(f->junit, "</testsuite>\n");
    }
    if (f->sarif) {
        fprintf(f->sarif, "\n]}]}\n");
    }
}
