/*
 * Generating scenarios, from inside.
 *
 * A profile writes a scenario as text, drawing through choices of a scratch world only. Every decision has a name,
 * and its draws come from (seed, name, how often it was asked), so leaving one feature out never shifts another.
 * Chances can be weighted: "mirror:enospc=4,power=0" makes the feature enospc four times as likely and power
 * impossible.
 */
#ifndef SCENARIO_GEN_H
#define SCENARIO_GEN_H

#include "scenario/lang.h"

#define GEN_WEIGHTS_MAX 32
#define GEN_ACTIONS_MAX 192

struct gen_weight {
    const char *feature;
    uint32_t times;
};

/* A line that is due at a time, sorted in before it is written. */
struct gen_action {
    int64_t time_ns;
    char *line;
};

struct gen {
    struct sim *sim;
    struct scn_text text;
    struct gen_weight weights[GEN_WEIGHTS_MAX];
    size_t weight_count;
    struct gen_action actions[GEN_ACTIONS_MAX];
    size_t action_count;
    const char *storm_job; /* whom a storm of commands is for; NULL: "m" */
};

struct gen_profile {
    struct scn_profile profile;
    const char *const *features; /* that weights may name, NULL-ended */
    bool mixed;                  /* draws among the others: theirs as well */
};
extern const struct gen_profile gen_mirror_profile; /* gen_mirror.c */
extern const struct gen_profile gen_commit_profile; /* gen_commit.c */
extern const struct gen_profile gen_stream_profile; /* gen_stream.c */
extern const struct gen_profile gen_jobs_profile;   /* gen_jobs.c */
extern const struct gen_profile gen_backup_profile; /* gen_backup.c */
extern const struct gen_profile gen_bitmap_profile; /* gen_bitmap.c */
extern const struct gen_profile gen_block_profile;  /* gen_block.c */
extern const struct gen_profile gen_power_profile;  /* gen_power.c */
extern const struct gen_profile gen_mixed_profile;  /* gen_mixed.c */

/* The generator at work in a scratch world. */
struct gen *gen_of(struct sim *draw);

/* 0..n-1 for the decision `what`. */
uint64_t gen_draw(struct gen *gen, const char *what, uint64_t n);
/* low..high, both included. */
int64_t gen_range(struct gen *gen, const char *what, int64_t low, int64_t high);
/* Between 1 and 2^bits - 1, each power of two as likely. */
int64_t gen_scale(struct gen *gen, const char *what, unsigned bits);
/* The same in microseconds, as nanoseconds. */
int64_t gen_time(struct gen *gen, const char *what, unsigned bits);
/* One of words, equally likely; count of them. */
const char *gen_pick(struct gen *gen, const char *what, const char *const *words, size_t count);
#define GEN_PICK(gen, what, ...) \
    gen_pick(gen, what, (const char *const[]){__VA_ARGS__}, ARRAY_SIZE(((const char *const[]){__VA_ARGS__})))
/* True in permille of a thousand, times the feature's weight. */
bool gen_chance(struct gen *gen, const char *feature, unsigned permille);

/* Appends to the line in hand. */
void gen_add(struct gen *gen, const char *fmt, ...) SIM_PRINTF(2, 3);
/* " key=SIZE", " key=TIME" */
void gen_add_size(struct gen *gen, const char *key, int64_t bytes);
void gen_add_time(struct gen *gen, const char *key, int64_t time_ns);
/* Appends a whole line. */
void gen_line(struct gen *gen, const char *fmt, ...) SIM_PRINTF(2, 3);
/* Keeps a line for time_ns after now; nothing once there are GEN_ACTIONS_MAX. */
void gen_at(struct gen *gen, int64_t time_ns, const char *fmt, ...) SIM_PRINTF(3, 4);
/* The line in hand, not ended yet, is taken back; caller frees. */
char *gen_take(struct gen *gen);
/* The line in hand, not ended yet, is kept instead of written. */
void gen_keep(struct gen *gen, int64_t time_ns);
/* Writes what was kept, by time and then order, each with its delay after the one before. */
void gen_flush(struct gen *gen);
/* The line that says how choices fall: mostly random, sometimes calm or pct. */
void gen_schedule(struct gen *gen);

/* A fault out of the registry on one of disks, its arguments drawn by their types; NULL when there is none to draw.
 * Caller frees. bytes: length of the disks. */
char *gen_fault(struct gen *gen, const char *what, const char *const *disks, size_t disk_count, int64_t bytes);

#endif
