/*
 * Error: the message for a person, beside the negative errno that the code acts on.
 *
 * Inside the layers a function returns a negative errno. Where a QMP client or a user of the command line will
 * read the reason, it also takes `Error **errp` as last argument: set exactly once on failure, untouched on
 * success. errp may be NULL when the caller does not care; the return value alone always tells failure
 * (reference/jobs.md 4.8 [seed cc67f4d, 0fb6395]).
 *
 * An Error belongs to whoever holds the pointer; error_free() ends it. Errors live in libc memory, so they may
 * outlive the world in which they arose.
 */
#ifndef SIM_ERROR_H
#define SIM_ERROR_H

#include "sim/util.h"

enum error_class {
    ERROR_CLASS_GENERIC,           /* "GenericError" */
    ERROR_CLASS_COMMAND_NOT_FOUND, /* "CommandNotFound" */
    ERROR_CLASS_DEVICE_NOT_ACTIVE, /* "DeviceNotActive" */
    ERROR_CLASS_DEVICE_NOT_FOUND,  /* "DeviceNotFound" */
    ERROR_CLASS_KVM_MISSING_CAP,   /* "KVMMissingCap": kept so that the list equals QMP's */
};

typedef struct Error Error;

void error_setg(Error **errp, const char *fmt, ...) SIM_PRINTF(2, 3);
void error_set(Error **errp, enum error_class error_class, const char *fmt, ...) SIM_PRINTF(3, 4);
/* Appends ": " and the name of the errno (sim_errno_text). errnum may be positive or negative. */
void error_setg_errno(Error **errp, int errnum, const char *fmt, ...) SIM_PRINTF(3, 4);
/* Puts text before the message of *errp; nothing when errp is NULL or unset. */
void error_prepend(Error **errp, const char *fmt, ...) SIM_PRINTF(2, 3);
/* Moves local to *errp, or frees it when errp is NULL. local may be NULL. */
void error_propagate(Error **errp, Error *local);

const char *error_get_pretty(const Error *err);
enum error_class error_get_class(const Error *err);
const char *error_class_name(enum error_class error_class);
Error *error_copy(const Error *err);
void error_free(Error *err); /* NULL is fine */

/*
 * Text of an errno as glibc's strerror gives it in the C locale ("Input/output error"), from our own table so
 * that it is the same in every locale and libc. Sign is ignored; unknown values give "Unknown error N".
 */
const char *sim_errno_text(int errnum);
/* "EIO" for -EIO or EIO, "0" for 0; unknown values give "E?N" from a table of static strings or "E?". */
const char *sim_errno_name(int errnum);
/* "EIO" or "5" to 5; 0 when it is neither. */
int sim_errno_parse(const char *text);

#endif
