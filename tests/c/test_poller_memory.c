/* The poll() back end when memory runs out: a copy of it whose allocations
 * fail on demand. */
#include "loop/poller_backend.h"

#include "harness.h"

#include <sys/socket.h>
#include <unistd.h>

static int allocations_left; /* how many succeed; -1: all */

static bool
may_allocate(void)
{
    if (allocations_left == 0) {
        return false;
    }
    allocations_left -= allocations_left > 0;
    return true;
}

static void *
scarce_calloc(size_t count, size_t size)
{
    return may_allocate() ? calloc(count, size) : NULL;
}

static void *
scarce_realloc(void *old, size_t size)
{
    return may_allocate() ? realloc(old, size) : NULL;
}

#define calloc scarce_calloc
#define realloc scarce_realloc
#define tws_poller_poll scarce_poller_poll
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#include "../../csrc/loop/poller_poll.c"
#pragma GCC diagnostic pop
#undef calloc
#undef realloc
#undef tws_poller_poll

enum { WATCHED = 40, ALLOCATIONS = 4 };

/* Adds, waits and removes with `left` allocations, then with all of them:
 * whatever failed must work then. Returns whether anything failed. */
static bool
survives(int left, const int *fds)
{
    const struct tws_poller_backend *poll_backend = scarce_poller_poll();
    struct tws_ready ready[WATCHED];
    struct tws_error err;
    void *state = NULL;
    bool failed = false;
    size_t count = 77;
    bool due = false;
    allocations_left = left;
    if (poll_backend->open(&state, &err) != TWS_OK) {
        CHECK_INT(err.status, TWS_NOMEM);
        CHECK(state == NULL);
        return true;
    }
    for (size_t i = 0; i < WATCHED; i++) {
        void *data = &ready[i];
        enum tws_status status =
            poll_backend->add(state, fds[i], TWS_WRITABLE, data, &err);
        if (status != TWS_OK) {
            failed = true;
            CHECK_INT(err.status, TWS_NOMEM);
            /* It was not added by halves. */
            CHECK_INT(poll_backend->remove(state, fds[i], &err), TWS_OS);
            allocations_left = -1;
            CHECK_INT(
                poll_backend->add(state, fds[i], TWS_WRITABLE, data, &err),
                TWS_OK);
        }
    }
    if (poll_backend->wait(state, 0, ready, WATCHED, &count, &due, &err)
        != TWS_OK) {
        failed = true;
        CHECK_INT(err.status, TWS_NOMEM);
        CHECK_INT(count, 77);
        allocations_left = -1;
        CHECK_INT(
            poll_backend->wait(state, 0, ready, WATCHED, &count, &due, &err),
            TWS_OK);
    }
    CHECK_INT(count, WATCHED);
    poll_backend->close(state);
    return failed;
}

TEST(each_allocation_may_fail)
{
    int ends[2];
    int fds[WATCHED];
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    for (size_t i = 0; i < WATCHED; i++) {
        fds[i] = dup(ends[0]);
        CHECK(fds[i] >= 0);
    }
    int left = 0;
    while (left < 100 && survives(left, fds)) {
        left++;
    }
    CHECK(left >= ALLOCATIONS); /* state, two arrays, snapshot */
    CHECK(left < 100);
    for (size_t i = 0; i < WATCHED; i++) {
        CHECK_INT(close(fds[i]), 0);
    }
    CHECK_INT(close(ends[0]), 0);
    CHECK_INT(close(ends[1]), 0);
}

RUN(T(each_allocation_may_fail))
