/*
 * guest-view's model from inside: its leaves and cells (guest_cells.c), writes (guest_model.c) and reads
 * (guest_reads.c). Nobody else includes it.
 */
#ifndef CHECK_GUEST_CELLS_H
#define CHECK_GUEST_CELLS_H

#include "check/guest_model.h"

/* A new leaf is uniform and wild since before time. */
struct model_leaf *guest_leaf_get(struct guest_model *model, int64_t index);
/* The cells of a leaf, made when it has none. */
struct model_cell *guest_leaf_cells(struct guest_model *model, struct model_leaf *leaf);
void guest_leaf_drop_cells(struct guest_model *model, struct model_leaf *leaf);
void guest_cell_page_drop(const struct guest_model *model, struct model_cell *cell);
/* The whole cell is that page; takes a reference. */
void guest_cell_page_set(const struct guest_model *model, struct model_cell *cell, struct page *page);
/* Sectors are looked at one by one from now on. */
void guest_cell_open(const struct guest_model *model, struct model_cell *cell);

void guest_candidate_add(struct guest_model *model, struct candidate **list, struct candidate value);
struct model_spill *guest_spill_get(struct guest_model *model, struct model_cell *cell);
/* Those that no read in flight since `reader` can return. */
void guest_drop_dead(struct guest_model *model, struct candidate **list, uint64_t reader);
/* Back to the compact form when one living candidate is left for each sector. */
void guest_try_compact(struct guest_model *model, struct model_cell *cell);
/* The oldest start of a read in flight over the range; UINT64_MAX: none. */
uint64_t guest_oldest_reader(const struct guest_model *model, int64_t offset, int64_t bytes);

#endif
