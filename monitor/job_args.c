/* Arguments that the commands which start block jobs have in common. */
#include "monitor/job_args.h"

const char *const qmp_on_errors[] = {"report", "ignore", "enospc", "stop", "auto", NULL};
const char *const qmp_mirror_syncs[] = {"top", "full", "none", "incremental", "bitmap", NULL};
const char *const qmp_new_image_modes[] = {"absolute-paths", "existing", NULL};

enum block_on_error qmp_job_on_error(const struct qvalue *args, const char *name)
{
    enum block_on_error policy = BLOCKDEV_ON_ERROR_REPORT;
    bool known = block_on_error_parse(qmp_arg_str(args, name, "report"), &policy);

    SIM_ASSERT(known);
    return policy;
}
