#include "load.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { ERRORS_SHOWN = 5 };

void
load_die(const char *what)
{
    perror(what);
    exit(2);
}

void
load_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(2);
}

uint64_t
load_clock(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) != 0) {
        load_die("clock_gettime");
    }
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

void *
load_allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) {
        load_die("calloc");
    }
    return memory;
}

/* Of all threads, living and ended, to the nanosecond: a process has a clock
 * that others may read. */
double
load_server_cpu(const struct plan *plan)
{
    double seconds = plan->process_count == 0 ? -1 : 0;
    for (unsigned i = 0; i < plan->process_count; i++) {
        clockid_t clock;
        struct timespec time;
        if (clock_getcpuclockid(plan->processes[i], &clock) != 0
            || clock_gettime(clock, &time) != 0) {
            return -1;
        }
        seconds += (double)time.tv_sec + (double)time.tv_nsec / 1e9;
    }
    return seconds;
}

void
load_fault(struct load *load, const struct peer *peer, const char *format, ...)
{
    if (load->counts.errors++ >= ERRORS_SHOWN) {
        return;
    }
    va_list args;
    va_start(args, format);
    fprintf(stderr, "connection %" PRIu32 ": ", peer->id);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}
