/*
 * Payloads: data moved by reference (DESIGN 4, reference/limits.md "What decides").
 *
 * A page is an immutable, counted 4 KiB of content: all zero, one byte repeated, or eight sectors, each a tag
 * (8-byte stamp), a fill, or 512 literal bytes. A payload is a byte range over a list of (page, first sector,
 * sector count), so copying 64 KiB is sixteen references. Bytes come into being only where somebody looks.
 *
 * Content does not depend on form: every sector is kept canonically (zero < fill < tag < bytes). Bytes that equal
 * the expansion of a tag are stored as that tag, uniform bytes as fill. So comparing, zero detection and content
 * ids give the same answer however the data came about.
 *
 * A payload owns one reference on each page in it. Payload structs live on stacks or inside other objects; their
 * spill arrays come from the world's arena.
 */
#ifndef SIM_PAYLOAD_H
#define SIM_PAYLOAD_H

#include "sim/sim.h"

#define PAGE_SECTORS 8

struct page; /* opaque; see sim/payload.c */

struct payload_elem {
    struct page *page;
    uint8_t first; /* sector within the page, 0..7 */
    uint8_t count; /* 1..8, first + count <= 8 */
};

#define PAYLOAD_INLINE 17
struct payload {
    struct sim *sim;
    struct payload_elem *elem; /* inline_elem or from the arena */
    uint32_t count;
    uint32_t room;
    uint32_t head_bytes; /* bytes of the first sector before the range, 0..511 */
    int64_t size_bytes;
    uint64_t content; /* payload_content_id, when content_known */
    bool content_known;
    struct payload_elem inline_elem[PAYLOAD_INLINE];
};

/* --- making and ending ---------------------------------------------------------------------------------- */

void payload_init(struct sim *sim, struct payload *p); /* empty */
void payload_clear(struct payload *p);                 /* drops the references; empty again, usable */
/* Appends. Misaligned joins (where the end of p is not on a sector edge, or the new piece does not start on one)
 * are made into bytes at the seam and beyond; all other cases are references only. */
void payload_append_zero(struct payload *p, int64_t bytes);
void payload_append_fill(struct payload *p, uint8_t byte, int64_t bytes);
void payload_append_bytes(struct payload *p, const void *data, int64_t bytes);
/* Consecutive sectors with tags tag, tag+1, ... */
void payload_append_tags(struct payload *p, uint64_t tag, int64_t sectors);
void payload_append(struct payload *p, const struct payload *from, int64_t offset, int64_t bytes);
/* Appends `count` sectors of a page, by reference. */
void payload_append_page(struct payload *p, struct page *page, unsigned first, unsigned count);
/* dst (initialised, empty) becomes [offset, offset+bytes) of src. Always by reference. */
void payload_slice(struct payload *dst, const struct payload *src, int64_t offset, int64_t bytes);
/* Keeps the first bytes only. */
void payload_truncate(struct payload *p, int64_t bytes);

/* --- looking -------------------------------------------------------------------------------------------- */

void payload_read_bytes(const struct payload *p, int64_t offset, void *buf, int64_t bytes);
bool payload_is_zero(const struct payload *p, int64_t offset, int64_t bytes);
bool payload_equal(const struct payload *a, int64_t a_offset, const struct payload *b, int64_t b_offset,
                   int64_t bytes);
/* First differing byte offset within `bytes`, or -1. */
int64_t payload_first_difference(const struct payload *a, const struct payload *b, int64_t bytes);
/* Content id of the whole range: equal content, equal id (64-bit; 0 for all zero of any length). Costs one
 * multiplication an element once the pages know theirs. */
uint64_t payload_content_id(const struct payload *p);

/* --- sectors -------------------------------------------------------------------------------------------- */

/* One sector's content id: 0 zero; otherwise a hash of the canonical form. Equal content <=> equal id (up to the
 * 64-bit hash for literal bytes). */
uint64_t sim_sector_id_zero(void);
uint64_t sim_sector_id_fill(uint8_t byte);
uint64_t sim_sector_id_tag(uint64_t tag);
uint64_t sim_sector_id_bytes(const uint8_t bytes[SIM_SECTOR_BYTES]); /* canonicalises first */
/* Sector i of a payload with head_bytes == 0. */
uint64_t payload_sector_id(const struct payload *p, int64_t sector);
/* True and the stamp when that sector is a tag. */
bool payload_sector_tag(const struct payload *p, int64_t sector, uint64_t *tag);
/*
 * The bytes of a tag: 64 little-endian words on every host,
 *     w[0] = tag    w[1] = ~tag    w[63] = tag ^ 0x626c6b73696d2d74
 *     w[i] = sim_mix64(tag + i * 0x9e3779b97f4a7c15) for i = 2..62
 * Never uniform (w[1] is the complement of w[0]), so never all zero; tag 0 is legal. The tag can be
 * read off a hex dump, and three words tell whether a full comparison is worth while.
 */
void sim_tag_expand(uint64_t tag, uint8_t bytes[SIM_SECTOR_BYTES]);

/* --- pages (media, page tables) ------------------------------------------------------------------------- */

struct page *page_ref(struct page *page);
void page_unref(struct sim *sim, struct page *page);
struct page *page_zero(struct sim *sim);               /* new reference */
struct page *page_fill(struct sim *sim, uint8_t byte); /* new reference; cached per world */
struct page *page_tags(struct sim *sim, uint64_t tag); /* new reference; 8 consecutive tags */
struct page *page_from_bytes(struct sim *sim, const uint8_t bytes[SIM_PAGE_BYTES]);
bool page_is_zero(const struct page *page); /* by content */
bool page_equal(const struct page *a, const struct page *b);
uint64_t page_sector_id(const struct page *page, unsigned sector);
void page_sector_ids(const struct page *page, unsigned first, unsigned count, uint64_t *ids);
bool page_sector_tag(const struct page *page, unsigned sector, uint64_t *tag);
void page_read_bytes(const struct page *page, unsigned offset, void *buf, unsigned bytes);
/* A new page: `base` with sectors [first, first+count) taken from `from` starting at its sector from_first. */
struct page *page_merge(struct sim *sim, const struct page *base, unsigned first, unsigned count,
                        const struct page *from, unsigned from_first);
/* Live pages, for the census. */
uint64_t page_live(struct sim *sim);

#endif
