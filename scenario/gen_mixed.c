/*
 * Profile mixed: one of the others, drawn by seed. A seed that draws one gives what that profile gives for it.
 */
#include "scenario/gen.h"

static const char *const features[] = {"bitmaps", "graphs", "powers", "chains", NULL};

static void generate(struct sim *draw)
{
    static const struct gen_profile *const chains[] = {&gen_commit_profile, &gen_stream_profile,
                                                       &gen_backup_profile, &gen_jobs_profile};
    const struct gen_profile *profile = &gen_mirror_profile;
    struct gen *gen = gen_of(draw);

    if (gen_chance(gen, "bitmaps", 250)) {
        profile = &gen_bitmap_profile;
    } else if (gen_chance(gen, "graphs", 330)) {
        profile = &gen_block_profile;
    } else if (gen_chance(gen, "powers", 250)) {
        profile = &gen_power_profile;
    } else if (gen_chance(gen, "chains", 600)) {
        profile = chains[gen_draw(gen, "chain", ARRAY_SIZE(chains))];
    }
    profile->profile.generate(draw);
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
