/*
 * blksim img: qemu-img's verbs on host files, through the drivers of block/ (DESIGN 6).
 *
 * Each verb is a `const struct cli_command` in the table of cli/cmd_img.c, with qemu-img's option spelling. A verb
 * works in a world of its own with one host, whose nodes of driver `file` are the only way to anything outside.
 * Exit status: 0; 2 for bad usage or input (nothing done); `check` and `compare` have qemu-img's own.
 */
#ifndef CLI_IMG_H
#define CLI_IMG_H

#include "block/block_int.h"
#include "cli/cli.h"

extern const struct cli_command img_create, img_info, img_check, img_map, img_compare, img_convert, img_bitmap,
    img_snapshot, img_resize;

/* An image as the command line names it. */
struct img_file {
    const char *filename; /* or, with image_opts, driver=...,file.driver=... */
    const char *format;   /* NULL: as its content looks like */
    bool image_opts;
    bool writable;
    bool force_share;  /* -U */
    bool keep_out;     /* nobody else may write meanwhile, though the format would bear it; not with -U */
    bool no_backing;   /* its own layer only */
    bool repair;       /* opened to be checked: the dirty bit starts no repair of its own */
    const char *cache; /* -t, -T; NULL: writeback */
};

/* Runs fn on the main coroutine of a host that may use host files, and takes the world down. fn's exit status. */
int img_in_world(int (*fn)(struct host *host, void *opaque), void *opaque);
/* The same as a coroutine that may wait for requests; called by fn. */
int img_run(struct host *host, int (*fn)(void *opaque), void *opaque);
/* A backend without a name on the image; NULL after a message. blk_unref closes it. */
BlockBackend *img_open(struct host *host, const struct img_file *file);
/* "blksim: VERB: MESSAGE"; takes err over. EXIT_USAGE. */
int img_error(Error *err);
/* Whether two paths lead to one file, be it there or not yet. */
bool img_same_file(const char *one, const char *other);
/* "writethrough" and the rest; false after a message. */
bool img_check_cache(const char *cache);
/* --output: sets *json; false after a message. */
bool img_output(const char *text, bool *json);
/* The verb at work, for messages. */
void img_set_verb(const char *name);

/* An image to be made: options are blockdev-create's without driver and file; data_file is a file name. */
struct img_new {
    struct host *host;
    const char *filename;
    const char *format;
    struct qvalue *options;
    Error *err;
};
/* Whether the format takes these options; false with new->err. Touches nothing. */
bool img_new_check(struct img_new *new);
/* For img_run, with a struct img_new: makes file, data file and format. 0 or -errno with err. */
int img_new_make(void *opaque);
/* The values of -o, in their order. False with new->err. */
bool img_new_options(struct img_new *new, const struct cli_given *given);
/* `-o help` */
bool img_asks_options(const struct cli_given *given);
int img_list_options(void);

/* Progress as qemu-img shows it, on standard output, when on (-p). */
struct img_progress {
    bool on;
    int last; /* hundredths of a percent shown last */
};
void img_progress(struct img_progress *p, int64_t done, int64_t total);
void img_progress_end(struct img_progress *p);

/* A run of one kind, from offset on, over the whole chain (`map`, `compare`, `convert`). */
struct img_extent {
    int64_t start;
    int64_t length;
    int depth;
    bool present;
    bool zero;
    bool data;
    bool has_offset;
    bool compressed;
    int64_t offset;
    const char *filename; /* of the node at offset */
};
/* Coroutine. 0 or -errno. */
int img_extent_at(BlockDriverState *bs, int64_t offset, int64_t bytes, struct img_extent *extent);

/* What info tells of one image, as JSON has it. */
struct qvalue *img_describe(BlockDriverState *bs);
void img_describe_text(FILE *out, const struct qvalue *info);
void img_snapshot_table(FILE *out, const struct qvalue *list);
/* Members by their keys: 0, "" and false when absent. */
int64_t img_int(const struct qvalue *dict, const char *key);
const char *img_str(const struct qvalue *dict, const char *key);
bool img_bool(const struct qvalue *dict, const char *key);
/* "1.5 GiB" */
const char *img_human(int64_t bytes, char buf[32]);

#endif
