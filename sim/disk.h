/*
 * Fake disks: the media of a world (DESIGN 4).
 *
 * A disk belongs to the world, not to a host: several hosts may share it, and it survives their crashes. Content
 * is a sparse radix tree of pages; memory and time are spent on what is touched, never on the virtual size.
 *
 *     submit -> [interposers] -> wait for a slot (queue-depth) -> serve (latency) -> apply/sample -> complete
 *
 * The effect of a write happens at one instant between start of service and completion, which of the two is a
 * choice (site disk.moment); a read samples likewise. With volatile write cache a completed write is durable only
 * after a completed flush that was submitted later, or with FUA.
 *
 * Units: bytes. Requests must be multiples of `align`, reads and writes at most `max-transfer`; anything else is an
 * assertion (the node above aligns and cuts). The
 * length need not be: the last aligned unit (at least a sector) may be read and, on a device, written as a whole;
 * what lies beyond the length reads zero and is not kept. Errors come back as negative errno: -EIO (range,
 * injected), -ENOSPC (capacity), -ENOTSUP (operation switched off), -EINVAL (length of a device).
 *
 * Allocation goes in units: one written byte allocates its whole unit, a discard frees the units that lie wholly
 * inside it. A refused or failed write leaves a prefix by choice: of the units that still fit (-ENOSPC), of sectors
 * (any other error); 0 leaves nothing.
 */
#ifndef SIM_DISK_H
#define SIM_DISK_H

#include "sim/coroutine.h"
#include "sim/payload.h"
#include "sim/qvalue.h"

enum disk_type {
    DISK_FILE,   /* length follows writes and truncate */
    DISK_DEVICE, /* fixed length; writes beyond it -EIO, truncate to another length -EINVAL */
};

enum disk_content {
    DISK_CONTENT_HOLE,  /* unallocated, reads zero */
    DISK_CONTENT_STAMP, /* allocated; sector i is tag (disk key << 32 | low 32 bits of i) until overwritten */
};

struct disk_config {
    enum disk_type type;        /* type=file|device, default file */
    int64_t size_bytes;         /* size, default 0 */
    int64_t capacity_bytes;     /* capacity, 0 = unlimited; rounded down to alloc_unit */
    uint32_t align_bytes;       /* align, power of two 1..4096, default 512 */
    uint32_t alloc_unit_bytes;  /* alloc-unit, power of two 4k..1M, default 4k */
    uint32_t atomic_bytes;      /* atomic: unit that power loss never tears, power of two 512..4k, default 512 */
    int64_t latency_ns;         /* latency, default 50us; multiplied by 1, 2, 4 or 16 by choice */
    int64_t latency_per_kib_ns; /* per-kib, default 250ns */
    uint32_t queue_depth;       /* queue-depth, 1..1024, default 32 */
    bool volatile_cache;        /* write-cache=on|off, default on */
    bool can_discard;           /* discard=on|off, default on */
    bool can_write_zeroes;      /* write-zeroes=on|off, default on */
    enum disk_content content;  /* content=hole|stamp, default hole */
    int64_t max_transfer_bytes; /* max-transfer: largest read or write, at least 4k, a multiple of align; 0 = any */
};
void disk_config_default(struct disk_config *config);
/* Defaults, overridden by the keys named above. False with "Parameter ..." on a bad or unknown key or on keys that
 * contradict each other. */
bool disk_config_parse(const struct qvalue *dict, struct disk_config *config, Error **errp);

struct disk;

/* Takes the config by value. name must not be in use. NULL with errp on a bad combination. */
struct disk *disk_new(struct sim *sim, const char *name, const struct disk_config *config, Error **errp);
struct disk *disk_find(struct sim *sim, const char *name); /* NULL when there is none */
struct disk *disk_first(struct sim *sim);
struct disk *disk_next(struct disk *disk);
const struct sim_name *disk_name(const struct disk *disk);
struct sim *disk_sim(const struct disk *disk);
const struct disk_config *disk_get_config(const struct disk *disk);
int64_t disk_length(const struct disk *disk);
/* 0 removes the limit. Lowering below what is allocated only stops further allocation. */
void disk_set_capacity(struct disk *disk, int64_t capacity_bytes);
void disk_set_latency(struct disk *disk, int64_t latency_ns);
int64_t disk_allocated_bytes(const struct disk *disk);

/* --- requests ------------------------------------------------------------------------------------------- */

#define DISK_REQ_FUA 1u
#define DISK_REQ_MAY_UNMAP 2u

struct disk_req {
    struct disk *disk;
    enum sim_op op;
    uint32_t flags;
    int64_t offset;
    int64_t bytes;
    const struct payload *in; /* write: borrowed until completion (a guest may change it meanwhile) */
    struct payload *out;      /* read: appended to at completion */
    void (*done)(void *opaque, int ret);
    void *opaque;
    /* private to sim/disk.c and interposers */
    uint64_t number; /* per disk */
    uint64_t entity; /* key of this request's choices */
    struct sim_origin origin;
    struct host *host;
    int ret;
    int64_t extra_latency_ns;
    bool stuck; /* held until disk_release_stuck */
    struct sim_timer timer;
    struct disk_req *next;
    struct disk_req *prev;
    int64_t submit_ns;
    uint64_t flush_point;
    bool applied;
    struct payload sampled;
    /* What an interposer may bend: where the effect happens and how many leading bytes of it (offset and bytes
     * unless changed: a misdirected or a torn write); lose: success is reported and nothing happens (a lost write,
     * a lying flush). */
    int64_t effect_offset;
    int64_t effect_bytes;
    bool lose;
    /* private to sim/disk*.c */
    uint8_t state;
    struct disk_req *wait_next;
    struct disk_journal *journal;
    uint64_t content; /* id of what was written or read */
};

/* The caller owns req and fills disk, op, flags, offset, bytes, in/out, done, opaque. done is called from the
 * event loop, never inside submit. */
void disk_submit(struct sim *sim, struct disk_req *req);

/* Coroutine forms. Return 0 or negative errno. */
int disk_co_read(struct disk *disk, int64_t offset, int64_t bytes, struct payload *out);
int disk_co_write(struct disk *disk, int64_t offset, int64_t bytes, const struct payload *in, uint32_t flags);
int disk_co_write_zeroes(struct disk *disk, int64_t offset, int64_t bytes, uint32_t flags);
int disk_co_discard(struct disk *disk, int64_t offset, int64_t bytes);
int disk_co_flush(struct disk *disk);
int disk_co_truncate(struct disk *disk, int64_t length);
/* Queries are requests too (they take no time but interposers may fail them): SIM_OP_GETLENGTH, _GET_INFO,
 * _BLOCK_STATUS, _OPEN. */
int64_t disk_co_getlength(struct disk *disk);
int disk_co_query(struct disk *disk, enum sim_op op, int64_t offset, int64_t bytes);
/* A query of someone who cannot wait: the answer is there at once, latency and sticking do not apply. */
int disk_query_now(struct disk *disk, enum sim_op op);
/* State at offset: *pnum > 0 bytes of equal state, true when allocated data; false is a hole (reads zero). */
bool disk_status(const struct disk *disk, int64_t offset, int64_t bytes, int64_t *pnum, bool *zero);

/* Requests inside the medium now. */
uint32_t disk_in_flight(const struct disk *disk);
/* fn sees each request inside, oldest first. */
void disk_each_in_flight(struct disk *disk, void (*fn)(void *opaque, const struct disk_req *req), void *opaque);

/* --- locks ------------------------------------------------------------------------------------------------ */

/*
 * Byte locks as hosts take them on an image file (reference/block.md 8.11): for each bit one may be `taken` (others
 * must not have it unshared) or `unshared` (others must not have it taken). Advisory: requests do not look at them.
 * A holder is whoever owns the struct (zero-initialised); locks of a crashed host vanish.
 */
struct disk_lock {
    struct disk *disk; /* NULL: holds nothing */
    struct host *host;
    uint64_t taken;
    uint64_t unshared;
    struct disk_lock *next;
};
/* What of taken | unshared << 32 another holder stands against; 0: nothing. */
uint64_t disk_lock_conflict(const struct disk *disk, const struct disk_lock *lock, uint64_t taken,
                            uint64_t unshared);
/* The caller has looked. Both 0 gives the lock up. */
void disk_lock_set(struct disk *disk, struct disk_lock *lock, struct host *host, uint64_t taken, uint64_t unshared);
/* What all holders of a host have together. */
void disk_locks_of(const struct disk *disk, const struct host *host, uint64_t *taken, uint64_t *unshared);

/* --- interposers (faults/) ------------------------------------------------------------------------------ */

/*
 * Called when a request is submitted (before) and just before its effect (at_effect); either may be NULL. `before`
 * may set req->ret < 0 (the request fails with it after its latency; a write leaves a prefix by choice), add
 * extra_latency_ns, or set stuck. `at_effect` may set ret < 0, effect_offset, effect_bytes or lose; it is not
 * called for a request that has failed already. Several interposers are called in the order they were added.
 */
struct disk_interposer {
    void (*before)(struct disk_interposer *self, struct disk_req *req);
    void (*at_effect)(struct disk_interposer *self, struct disk_req *req);
    struct disk_interposer *next;
};
void disk_add_interposer(struct disk *disk, struct disk_interposer *interposer);
void disk_remove_interposer(struct disk *disk, struct disk_interposer *interposer);
/* Lets every stuck request go on (it then takes its latency). Returns how many. */
unsigned disk_release_stuck(struct disk *disk);

/* --- power ---------------------------------------------------------------------------------------------- */

/* Keep what is needed for disk_power_loss: on by default; a world in which the power never fails may switch it
 * off before the first write, for speed. */
void disk_set_journal(struct disk *disk, bool on);
bool disk_has_journal(const struct disk *disk);
/* When a host crashes its requests vanish from all media without completing, each with or without effect (choice
 * disk.crash); what they wrote is in the cache.
 *
 * Power loss: content becomes the durable state plus a chosen subset of the unflushed writes, each perhaps torn at
 * the atomic unit (choices disk.power). Requests in flight vanish without completing (their submitters are dead),
 * each with or without effect. Without a journal everything applied stays. */
void disk_power_loss(struct disk *disk);
/* What is kept of that: a drawn part, nothing, or everything, what is in flight included. The last two draw
 * nothing. */
enum disk_keep { DISK_KEEP_DRAWN, DISK_KEEP_NONE, DISK_KEEP_ALL };
void disk_power_loss_keeping(struct disk *disk, enum disk_keep keep);
/* Writes completed but not yet durable. */
uint64_t disk_unflushed(const struct disk *disk);

/* --- content without I/O (set-up, checkers, export) ----------------------------------------------------- */

/* Appends [offset, offset+bytes) as it is now, zero beyond the length. No events, no time. */
void disk_peek(const struct disk *disk, int64_t offset, int64_t bytes, struct payload *out);
/* What a disk_peek after a power loss that kept nothing would give. */
void disk_peek_durable(const struct disk *disk, int64_t offset, int64_t bytes, struct payload *out);
/* The next offset >= from whose page was touched or carries non-hole content, or -1; *end is where that run stops.
 * For DISK_CONTENT_STAMP the untouched rest is content too. */
int64_t disk_next_data(const struct disk *disk, int64_t from, int64_t *end);
/* Page holding offset, borrowed; NULL: a hole. For comparing large disks by reference. */
const struct page *disk_peek_page(const struct disk *disk, int64_t page_index);
/* Changes content without a request: loading images. Allocates; ignores capacity. */
void disk_poke(struct disk *disk, int64_t offset, const struct payload *in);

/* A frozen copy of content and length, sharing pages. */
struct disk_snapshot;
struct disk_snapshot *disk_snapshot_take(struct disk *disk);
void disk_snapshot_restore(struct disk *disk, const struct disk_snapshot *snapshot);
void disk_snapshot_peek(const struct disk_snapshot *snapshot, int64_t offset, int64_t bytes, struct payload *out);
void disk_snapshot_delete(struct disk *disk, struct disk_snapshot *snapshot);

/* Host files. Load replaces content and length; pages of zeroes become holes, wherever the file system of the host
 * keeps its own. Both give 0 or negative errno with errp. Save writes a sparse file of the disk's length. */
int disk_load_file(struct disk *disk, const char *path, Error **errp);
int disk_save_file(const struct disk *disk, const char *path, Error **errp);

#endif
