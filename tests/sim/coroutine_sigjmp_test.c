/* Protects the portable back end: the tests of coroutine_test.c on sigsetjmp. What knows the layout of a coroutine
 * is compiled once more here, and the linker prefers it to the library's. */
#ifndef SIM_CO_SIGJMP
#define SIM_CO_SIGJMP
#endif
#include "sim/colock.c"
#include "sim/coroutine.c"
#include "sim/host.c"
#include "tests/sim/coroutine_test.c"
