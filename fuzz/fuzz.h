/*
 * What a fuzz target is: one function that takes any bytes, called over and over in one process.
 *
 * libFuzzer and AFL++'s driver bring a main of their own; fuzz/replay_main.c is one that runs files.
 */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Returns 0; aborts when the input shows a bug. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

#endif
