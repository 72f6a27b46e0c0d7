/*
 * Errno values as text, from a table of our own: the same in every locale and libc.
 *
 * Numbers in text are Linux's, so that "5" means EIO on every host.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/error.h"

static const struct {
    int value; /* here */
    int linux_value;
    const char *name;
    const char *text;
} errnos[] = {
    {EPERM, 1, "EPERM", "Operation not permitted"},
    {ENOENT, 2, "ENOENT", "No such file or directory"},
    {ESRCH, 3, "ESRCH", "No such process"},
    {EINTR, 4, "EINTR", "Interrupted system call"},
    {EIO, 5, "EIO", "Input/output error"},
    {ENXIO, 6, "ENXIO", "No such device or address"},
    {E2BIG, 7, "E2BIG", "Argument list too long"},
    {ENOEXEC, 8, "ENOEXEC", "Exec format error"},
    {EBADF, 9, "EBADF", "Bad file descriptor"},
    {ECHILD, 10, "ECHILD", "No child processes"},
    {EAGAIN, 11, "EAGAIN", "Resource temporarily unavailable"},
    {ENOMEM, 12, "ENOMEM", "Cannot allocate memory"},
    {EACCES, 13, "EACCES", "Permission denied"},
    {EFAULT, 14, "EFAULT", "Bad address"},
    {ENOTBLK, 15, "ENOTBLK", "Block device required"},
    {EBUSY, 16, "EBUSY", "Device or resource busy"},
    {EEXIST, 17, "EEXIST", "File exists"},
    {EXDEV, 18, "EXDEV", "Invalid cross-device link"},
    {ENODEV, 19, "ENODEV", "No such device"},
    {ENOTDIR, 20, "ENOTDIR", "Not a directory"},
    {EISDIR, 21, "EISDIR", "Is a directory"},
    {EINVAL, 22, "EINVAL", "Invalid argument"},
    {ENFILE, 23, "ENFILE", "Too many open files in system"},
    {EMFILE, 24, "EMFILE", "Too many open files"},
    {ENOTTY, 25, "ENOTTY", "Inappropriate ioctl for device"},
    {ETXTBSY, 26, "ETXTBSY", "Text file busy"},
    {EFBIG, 27, "EFBIG", "File too large"},
    {ENOSPC, 28, "ENOSPC", "No space left on device"},
    {ESPIPE, 29, "ESPIPE", "Illegal seek"},
    {EROFS, 30, "EROFS", "Read-only file system"},
    {EMLINK, 31, "EMLINK", "Too many links"},
    {EPIPE, 32, "EPIPE", "Broken pipe"},
    {EDOM, 33, "EDOM", "Numerical argument out of domain"},
    {ERANGE, 34, "ERANGE", "Numerical result out of range"},
    {EDEADLK, 35, "EDEADLK", "Resource deadlock avoided"},
    {ENAMETOOLONG, 36, "ENAMETOOLONG", "File name too long"},
    {ENOSYS, 38, "ENOSYS", "Function not implemented"},
    {ENOTEMPTY, 39, "ENOTEMPTY", "Directory not empty"},
    {ELOOP, 40, "ELOOP", "Too many levels of symbolic links"},
    {ENODATA, 61, "ENODATA", "No data available"},
    {ETIME, 62, "ETIME", "Timer expired"},
    {EPROTO, 71, "EPROTO", "Protocol error"},
    {EBADMSG, 74, "EBADMSG", "Bad message"},
    {EOVERFLOW, 75, "EOVERFLOW", "Value too large for defined data type"},
    {EILSEQ, 84, "EILSEQ", "Invalid or incomplete multibyte or wide character"},
    {ENOTSUP, 95, "ENOTSUP", "Operation not supported"},
    {EMEDIUMTYPE, 124, "EMEDIUMTYPE", "Wrong medium type"},
    {ENOMEDIUM, 123, "ENOMEDIUM", "No medium found"},
    {EREMOTEIO, 121, "EREMOTEIO", "Remote I/O error"},
    {EDQUOT, 122, "EDQUOT", "Disk quota exceeded"},
    {ESHUTDOWN, 108, "ESHUTDOWN", "Cannot send after transport endpoint shutdown"},
    {ECONNABORTED, 103, "ECONNABORTED", "Software caused connection abort"},
    {ECONNRESET, 104, "ECONNRESET", "Connection reset by peer"},
    {ENOTCONN, 107, "ENOTCONN", "Transport endpoint is not connected"},
    {ECONNREFUSED, 111, "ECONNREFUSED", "Connection refused"},
    {ETIMEDOUT, 110, "ETIMEDOUT", "Connection timed out"},
    {EHOSTUNREACH, 113, "EHOSTUNREACH", "No route to host"},
    {EALREADY, 114, "EALREADY", "Operation already in progress"},
    {EINPROGRESS, 115, "EINPROGRESS", "Operation now in progress"},
    {ESTALE, 116, "ESTALE", "Stale file handle"},
    {ECANCELED, 125, "ECANCELED", "Operation canceled"},
};

static int find(int errnum)
{
    for (size_t i = 0; i < ARRAY_SIZE(errnos); i++) {
        if (errnos[i].value == errnum) {
            return (int)i;
        }
    }
    return -1;
}

/* INT_MIN has no positive twin and no name either. */
static int magnitude(int errnum)
{
    return errnum < 0 ? (errnum == INT32_MIN ? INT32_MAX : -errnum) : errnum;
}

const char *sim_errno_text(int errnum)
{
    static _Thread_local char unknown[32];
    int value = magnitude(errnum);
    int i;

    if (value == 0) {
        return "Success";
    }
    i = find(value);
    if (i >= 0) {
        return errnos[i].text;
    }
    snprintf(unknown, sizeof(unknown), "Unknown error %d", value);
    return unknown;
}

const char *sim_errno_name(int errnum)
{
    int value = magnitude(errnum);
    int i = find(value);

    if (value == 0) {
        return "0";
    }
    return i >= 0 ? errnos[i].name : "E?";
}

int sim_errno_parse(const char *text)
{
    char *end;
    long number;

    SIM_ASSERT(text != NULL);
    for (size_t i = 0; i < ARRAY_SIZE(errnos); i++) {
        if (strcmp(text, errnos[i].name) == 0) {
            return errnos[i].value;
        }
    }
    if (strcmp(text, "EOPNOTSUPP") == 0) {
        return ENOTSUP;
    }
    if (text[0] < '0' || text[0] > '9') {
        return 0;
    }
    number = strtol(text, &end, 10);
    for (size_t i = 0; *end == '\0' && i < ARRAY_SIZE(errnos); i++) {
        if (number == errnos[i].linux_value) {
            return errnos[i].value;
        }
    }
    return 0;
}
