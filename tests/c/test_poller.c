#include "loop/poller.h"

#include "poller_fixture.h"

#include <sys/resource.h>

static int tag_a; /* addresses to tell descriptors by */
static int tag_b;

BOTH_KINDS(readiness_is_reported_as_asked)
{
    struct tws_poller *poller = new_poller(kind);
    struct pair pair = open_pair();
    add(poller, pair.near, TWS_READABLE, &tag_a);
    expect_only(poller, NULL, 0);
    put(pair.far);
    expect_only(poller, &tag_a, TWS_READABLE);
    expect_only(poller, &tag_a, TWS_READABLE); /* level-triggered */
    modify(poller, pair.near, TWS_READABLE | TWS_WRITABLE, &tag_b);
    expect_only(poller, &tag_b, TWS_READABLE | TWS_WRITABLE);
    get(pair.near);
    expect_only(poller, &tag_b, TWS_WRITABLE);
    modify(poller, pair.near, 0, &tag_b);
    put(pair.far);
    expect_only(poller, NULL, 0);
    modify(poller, pair.near, TWS_WRITABLE, NULL); /* data may be NULL */
    expect_only(poller, NULL, TWS_WRITABLE);
    take_off(poller, pair.near);
    expect_only(poller, NULL, 0);
    close_pair(pair);
    tws_poller_free(poller);
}

BOTH_KINDS(a_hang_up_is_reported_with_no_events_asked)
{
    struct tws_poller *poller = new_poller(kind);
    struct pair pair = open_pair();
    add(poller, pair.near, 0, &tag_a);
    expect_only(poller, NULL, 0);
    CHECK_INT(close(pair.far), 0);
    expect_only(poller, &tag_a, TWS_HANGUP);
    modify(poller, pair.near, TWS_READABLE | TWS_WRITABLE, &tag_a);
    expect_only(poller, &tag_a, TWS_READABLE | TWS_WRITABLE | TWS_HANGUP);
    take_off(poller, pair.near);
    expect_only(poller, NULL, 0);
    CHECK_INT(close(pair.near), 0);
    tws_poller_free(poller);
}

BOTH_KINDS(an_error_is_reported_with_no_events_asked)
{
    struct tws_poller *poller = new_poller(kind);
    int ends[2];
    CHECK_INT(pipe(ends), 0);
    add(poller, ends[1], 0, &tag_a);
    expect_only(poller, NULL, 0);
    CHECK_INT(close(ends[0]), 0); /* nobody reads: an error for the writer */
    expect_only(poller, &tag_a, TWS_HANGUP);
    take_off(poller, ends[1]);
    CHECK_INT(close(ends[1]), 0);
    tws_poller_free(poller);
}

BOTH_KINDS(misuse_is_an_error_and_changes_nothing)
{
    struct tws_poller *poller = new_poller(kind);
    struct tws_error err;
    struct pair pair = open_pair();
    int unused = dup(pair.far);
    CHECK_INT(close(unused), 0);
    struct tws_ready ready[1];
    size_t count = 77;
    bool due = true;

    CHECK_INT(tws_poller_modify(poller, pair.near, 0, &tag_b, &err), TWS_OS);
    CHECK_INT(err.sys_errno, ENOENT);
    CHECK_INT(tws_poller_remove(poller, pair.near, &err), TWS_OS);
    CHECK_INT(err.sys_errno, ENOENT);
    add(poller, pair.near, TWS_WRITABLE, &tag_a);
    CHECK_INT(tws_poller_add(poller, pair.near, 0, &tag_b, &err), TWS_OS);
    CHECK_INT(err.sys_errno, EEXIST);
    CHECK_INT(tws_poller_add(poller, -1, 0, &tag_b, &err), TWS_OS);
    CHECK_INT(err.sys_errno, EBADF);
    CHECK_INT(tws_poller_add(poller, unused, 0, &tag_b, &err), TWS_OS);
    CHECK_INT(err.sys_errno, EBADF);
    CHECK_INT(tws_poller_modify(poller, -1, 0, &tag_b, &err), TWS_OS);
    CHECK_INT(tws_poller_remove(poller, -1, &err), TWS_OS);
    CHECK_INT(tws_poller_remove(poller, 1 << 30, &err), TWS_OS);
    CHECK_INT(tws_poller_wait(poller, 0, ready, 0, &count, &due, &err),
              TWS_OS);
    CHECK_INT(err.sys_errno, EINVAL);
    CHECK_INT(count, 77);
    expect_only(poller, &tag_a, TWS_WRITABLE);

    close_pair(pair);
    tws_poller_free(poller);
    tws_poller_free(NULL);
}

BOTH_KINDS(no_descriptors_left_is_an_error_and_leaks_none)
{
    struct rlimit limit;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    struct pair first = open_pair();
    close_pair(first);
    /* One more descriptor each time, until there are enough. */
    struct tws_poller *poller = NULL;
    struct tws_error err = {0};
    int failures = 0;
    for (int more = 0; more < 8 && poller == NULL; more++) {
        struct rlimit low = limit;
        low.rlim_cur = (rlim_t)(first.near + more);
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &low), 0);
        if (tws_poller_new(kind, &poller, &err) != TWS_OK) {
            CHECK_INT(err.status, TWS_OS);
            CHECK_INT(err.sys_errno, EMFILE);
            CHECK(poller == NULL);
            failures++;
        }
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
        if (poller == NULL) {
            struct pair again = open_pair();
            CHECK_INT(again.near, first.near);
            CHECK_INT(again.far, first.far);
            close_pair(again);
        }
    }
    CHECK(poller != NULL);
    /* The wake-up's, epoll's and its timer's; the wake-up's and poll()'s. */
    CHECK_INT(failures, kind == TWS_POLLER_BEST ? 3 : 2);
    tws_poller_free(poller);
}

BOTH_KINDS(a_wait_never_ends_before_its_deadline)
{
    static const uint64_t times[] = {1, MILLISECOND / 10,
                                     MILLISECOND + MILLISECOND / 5,
                                     2 * MILLISECOND - 1, 30 * MILLISECOND};
    struct tws_poller *poller = new_poller(kind);
    struct pair pair = open_pair();
    add(poller, pair.near, TWS_READABLE, &tag_a);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(times); i++) {
        for (int round = 0; round < 5; round++) {
            expect_end(poller, from_now(times[i]));
        }
    }
    close_pair(pair);
    tws_poller_free(poller);
}

/* A wait that hangs ends the test by a signal. */
BOTH_KINDS(a_deadline_in_the_past_is_due_at_once)
{
    struct tws_poller *poller = new_poller(kind);
    struct pair pair = open_pair();
    struct tws_ready ready[2];
    (void)alarm(60);
    for (int i = 0; i < 1000; i++) {
        uint64_t now = tws_clock_now();
        const uint64_t deadlines[] = {1, now - 1000 * MILLISECOND, now - 1,
                                      now};
        uint64_t deadline = deadlines[i % 4];
        bool due = false;
        CHECK_INT(wait_until(poller, deadline, ready, 2, &due), 0);
        CHECK(due);
        /* What is ready is reported beside it. */
        add(poller, pair.near, TWS_WRITABLE, &tag_a);
        due = false;
        CHECK_INT(wait_until(poller, deadline, ready, 2, &due), 1);
        CHECK(ready[0].data == &tag_a);
        CHECK(due);
        take_off(poller, pair.near);
    }
    (void)alarm(0);
    close_pair(pair);
    tws_poller_free(poller);
}

BOTH_KINDS(without_a_deadline_nothing_is_due)
{
    struct tws_poller *poller = new_poller(kind);
    struct pair pair = open_pair();
    struct tws_ready ready[2];
    add(poller, pair.near, TWS_WRITABLE, &tag_a);
    for (int i = 0; i < 3; i++) {
        bool due = true;
        CHECK_INT(wait_until(poller, FOREVER, ready, 2, &due), 1);
        CHECK(!due);
    }
    close_pair(pair);
    tws_poller_free(poller);
}

/* Looks in between take nothing from it, not even one that has told. */
BOTH_KINDS(a_deadline_is_due_while_others_are_ready)
{
    struct tws_poller *poller = new_poller(kind);
    struct pair pair = open_pair();
    struct tws_ready ready[2];
    bool due = false;
    add(poller, pair.near, TWS_WRITABLE, &tag_a);
    for (int round = 0; round < 5; round++) {
        uint64_t deadline = from_now(10 * MILLISECOND);
        due = false;
        while (!due && tws_clock_now() < deadline + 5000 * MILLISECOND) {
            CHECK_INT(wait_for(poller, 0, ready, 2), 1);
            CHECK_INT(wait_until(poller, deadline, ready, 2, &due), 1);
        }
        CHECK(due);
        CHECK(tws_clock_now() >= deadline);
    }
    close_pair(pair);
    tws_poller_free(poller);
}

BOTH_KINDS(a_small_capacity_does_not_starve_the_deadline)
{
    enum { READY = 100 };
    static const size_t capacities[] = {1, 7, 100};
    struct tws_poller *poller = new_poller(kind);
    struct pair pair = open_pair();
    int fds[READY];
    struct tws_ready ready[READY];
    for (size_t i = 0; i < READY; i++) {
        fds[i] = dup(pair.near);
        add(poller, fds[i], TWS_WRITABLE, &fds[i]);
    }
    for (size_t i = 0; i < TWS_ARRAY_SIZE(capacities); i++) {
        uint64_t deadline = from_now(5 * MILLISECOND);
        bool due = false;
        (void)wait_for(poller, deadline, ready, capacities[i]);
        pause_for(20 * MILLISECOND);
        size_t waits = 0;
        due = false;
        while (!due && waits <= READY) {
            (void)wait_until(poller, deadline, ready, capacities[i], &due);
            waits++;
        }
        CHECK(due);
        CHECK(waits <= READY / capacities[i] + 2);
    }
    for (size_t i = 0; i < READY; i++) {
        CHECK_INT(close(fds[i]), 0);
    }
    close_pair(pair);
    tws_poller_free(poller);
}

/* With the old deadline at hand, a wait for the new one may end too early
 * once; it says so. */
BOTH_KINDS(a_deadline_moves)
{
    struct tws_poller *poller = new_poller(kind);
    struct pair pair = open_pair();
    struct tws_ready ready[1];
    add(poller, pair.near, TWS_WRITABLE, &tag_a);
    /* To a later time. */
    CHECK_INT(wait_for(poller, from_now(10 * MILLISECOND), ready, 1), 1);
    modify(poller, pair.near, TWS_READABLE, &tag_a);
    uint64_t deadline = from_now(60 * MILLISECOND);
    int waits = 0;
    while (tws_clock_now() < deadline && waits < 10) {
        bool due = false;
        CHECK_INT(wait_until(poller, deadline, ready, 1, &due), 0);
        CHECK(due);
        waits++;
    }
    CHECK(tws_clock_now() >= deadline);
    CHECK(waits >= 1);
    CHECK(waits <= 2);
    /* To an earlier one. */
    modify(poller, pair.near, TWS_WRITABLE, &tag_a);
    CHECK_INT(wait_for(poller, from_now(3600000 * MILLISECOND), ready, 1), 1);
    modify(poller, pair.near, TWS_READABLE, &tag_a);
    (void)alarm(60);
    expect_end(poller, from_now(10 * MILLISECOND));
    expect_end(poller, from_now(10 * MILLISECOND)); /* and again */
    (void)alarm(0);
    close_pair(pair);
    tws_poller_free(poller);
}

BOTH_KINDS(a_small_capacity_starves_nobody)
{
    enum { READY = 100, CAPACITY = 7, WAITS = 300 };
    struct tws_poller *poller = new_poller(kind);
    struct pair pair = open_pair();
    int fds[READY];
    int seen[READY] = {0};
    struct tws_ready ready[CAPACITY];
    for (size_t i = 0; i < READY; i++) {
        fds[i] = dup(pair.near);
        add(poller, fds[i], TWS_WRITABLE, &seen[i]);
    }
    for (int i = 0; i < WAITS; i++) {
        if (i % 3 == 0) {
            tws_poller_wake(poller); /* that takes a place, too */
        }
        size_t count = wait_for(poller, FOREVER, ready, CAPACITY);
        CHECK(count >= CAPACITY - 1);
        for (size_t j = 0; j < count; j++) {
            (*(int *)ready[j].data)++;
        }
    }
    for (size_t i = 0; i < READY; i++) {
        CHECK(seen[i] >= WAITS * (CAPACITY - 1) / READY - 2);
        CHECK(seen[i] <= WAITS * CAPACITY / READY + 2);
        take_off(poller, fds[i]);
        CHECK_INT(close(fds[i]), 0);
    }
    close_pair(pair);
    tws_poller_free(poller);
}

/* 2,500 pairs, or as many as the process may have. */
static size_t
pairs_allowed(void)
{
    struct rlimit limit;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    size_t allowed = 5000;
    if (limit.rlim_cur < allowed + 64) {
        allowed = (size_t)limit.rlim_cur - 64;
    }
    return allowed / 2;
}

struct many {
    size_t count;
    struct pair *pairs;
    int *seen;
};

static void
see_all(struct tws_poller *poller, struct many *many, unsigned events)
{
    struct tws_ready ready[64];
    size_t waits = 0;
    size_t missing = many->count;
    memset(many->seen, 0, many->count * sizeof(many->seen[0]));
    while (missing > 0 && waits <= many->count / 32 + 2) {
        size_t count = wait_for(poller, 0, ready, TWS_ARRAY_SIZE(ready));
        for (size_t i = 0; i < count; i++) {
            int *seen = ready[i].data;
            CHECK_INT(ready[i].events, events);
            missing -= *seen == 0;
            *seen = 1;
        }
        waits++;
    }
    CHECK_INT(missing, 0);
    CHECK(waits <= many->count / TWS_ARRAY_SIZE(ready) + 2);
}

BOTH_KINDS(thousands_of_descriptors_are_watched)
{
    struct tws_poller *poller = new_poller(kind);
    struct many many = {.count = pairs_allowed()};
    many.pairs = calloc(many.count, sizeof(many.pairs[0]));
    many.seen = calloc(2 * many.count, sizeof(many.seen[0]));
    for (size_t i = 0; i < many.count; i++) {
        many.pairs[i] = open_pair();
        add(poller, many.pairs[i].near, TWS_READABLE, &many.seen[i]);
        add(poller, many.pairs[i].far, 0, &many.seen[many.count + i]);
    }
    expect_only(poller, NULL, 0);
    put(many.pairs[many.count / 2].far);
    expect_only(poller, &many.seen[many.count / 2], TWS_READABLE);
    get(many.pairs[many.count / 2].near);
    for (size_t i = 0; i < many.count; i++) {
        put(many.pairs[i].far);
    }
    see_all(poller, &many, TWS_READABLE);
    for (size_t i = 0; i < many.count; i++) {
        get(many.pairs[i].near);
        modify(poller, many.pairs[i].near, TWS_WRITABLE, &many.seen[i]);
    }
    see_all(poller, &many, TWS_WRITABLE);
    for (size_t i = 0; i < many.count; i++) {
        take_off(poller, many.pairs[i].near);
    }
    expect_only(poller, NULL, 0);
    for (size_t i = 0; i < many.count; i++) {
        take_off(poller, many.pairs[i].far);
        close_pair(many.pairs[i]);
    }
    expect_only(poller, NULL, 0);
    free(many.pairs);
    free(many.seen);
    tws_poller_free(poller);
}

enum { MODELLED = 40 };

struct watched {
    int fd;
    bool is_added;
    bool is_readable; /* every second one is; all are writable */
    unsigned events;
    unsigned seen;
};

static void
check_model(struct tws_poller *poller, struct watched *all)
{
    struct tws_ready ready[MODELLED + 1];
    for (size_t i = 0; i < MODELLED; i++) {
        all[i].seen = 0;
    }
    size_t count = wait_for(poller, 0, ready, TWS_ARRAY_SIZE(ready));
    for (size_t i = 0; i < count; i++) {
        struct watched *watched = ready[i].data;
        CHECK_INT(watched->seen, 0);
        watched->seen = ready[i].events;
    }
    for (size_t i = 0; i < MODELLED; i++) {
        unsigned can =
            all[i].is_readable ? TWS_READABLE | TWS_WRITABLE : TWS_WRITABLE;
        CHECK_INT(all[i].seen, all[i].is_added ? all[i].events & can : 0);
    }
}

BOTH_KINDS(random_changes_agree_with_a_naive_model)
{
    struct tws_poller *poller = new_poller(kind);
    struct pair readable = open_pair();
    struct pair idle = open_pair();
    struct watched all[MODELLED] = {{0}};
    unsigned random = 12345;
    put(readable.far);
    for (size_t i = 0; i < MODELLED; i++) {
        all[i].is_readable = i % 2 == 0;
        all[i].fd = dup(all[i].is_readable ? readable.near : idle.near);
    }
    for (int step = 0; step < 3000; step++) {
        random = random * 1103515245 + 12345;
        struct watched *one = &all[(random >> 16) % MODELLED];
        unsigned events = random >> 8 & (TWS_READABLE | TWS_WRITABLE);
        if (!one->is_added) {
            add(poller, one->fd, events, one);
        }
        else if (random >> 28 & 1) {
            modify(poller, one->fd, events, one);
        }
        else {
            take_off(poller, one->fd);
        }
        one->is_added = !one->is_added || (random >> 28 & 1);
        one->events = events;
        check_model(poller, all);
    }
    for (size_t i = 0; i < MODELLED; i++) {
        CHECK_INT(close(all[i].fd), 0);
    }
    close_pair(readable);
    close_pair(idle);
    tws_poller_free(poller);
}

RUN(T(readiness_is_reported_as_asked),
    T(a_hang_up_is_reported_with_no_events_asked),
    T(an_error_is_reported_with_no_events_asked),
    T(misuse_is_an_error_and_changes_nothing),
    T(no_descriptors_left_is_an_error_and_leaks_none),
    T(a_wait_never_ends_before_its_deadline),
    T(a_deadline_in_the_past_is_due_at_once),
    T(without_a_deadline_nothing_is_due),
    T(a_deadline_is_due_while_others_are_ready),
    T(a_small_capacity_does_not_starve_the_deadline), T(a_deadline_moves),
    T(a_small_capacity_starves_nobody),
    T(thousands_of_descriptors_are_watched),
    T(random_changes_agree_with_a_naive_model))
