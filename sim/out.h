/*
 * Bounded text output: writes what fits and counts what would be needed, as snprintf does. Private to sim/.
 */
#ifndef SIM_OUT_H
#define SIM_OUT_H

#include "sim/util.h"

struct sim_out {
    char *buf;
    size_t room;   /* of buf, the final NUL included; 0: only measure */
    size_t length; /* that a large enough buf would hold */
};

void out_bytes(struct sim_out *out, const char *bytes, size_t count);
void out_str(struct sim_out *out, const char *str);
void out_printf(struct sim_out *out, const char *fmt, ...) SIM_PRINTF(2, 3);
/* A quoted JSON string; invalid UTF-8 becomes U+FFFD, a byte at a time. */
void out_json_str(struct sim_out *out, const char *bytes, size_t count);
/* Puts the final NUL; returns the length that a large enough buf would hold. */
size_t out_end(struct sim_out *out);

#endif
