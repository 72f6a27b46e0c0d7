/*
 * Profile mixed: one of the others, drawn by seed. A seed that draws one gives what that profile gives for it.
 */
#include "scenario/gen.h"

static const char *const features[] = {"bitmaps", "graphs", "powers", NULL};

static void generate(struct sim *draw)
{
    struct gen *gen = gen_of(draw);
    bool bitmaps = gen_chance(gen, "bitmaps", 250);
    bool graphs = !bitmaps && gen_chance(gen, "graphs", 330);
    bool powers = !bitmaps && !graphs && gen_chance(gen, "powers", 250);

    (powers    ? &gen_power_profile
     : graphs  ? &gen_block_profile
     : bitmaps ? &gen_bitmap_profile
               : &gen_mirror_profile)
        ->profile.generate(draw);
}

const struct gen_profile gen_mixed_profile = {
    .profile =
        {
            .name = "mixed",
            .doc = "draws among the other profiles: what a sweep runs unless told otherwise",
            .generate = generate,
        },
    .features = features,
    .mixed = true,
};
