/*
 * What every test file starts with: cmocka and its prerequisites, and tests named as paths.
 */
#ifndef TESTLIB_H
#define TESTLIB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A string literal for a void pointer; lives as long as the block around it. */
#define TEXT(str) ((char[]){str})

#define T(path, fn) \
    { \
        path, fn, NULL, NULL, NULL \
    }
#define T_SETUP(path, fn, setup, teardown) \
    { \
        path, fn, setup, teardown, NULL \
    }

#endif
