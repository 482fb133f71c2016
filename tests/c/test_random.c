/* getrandom() and madvise() are replaced, so that a test can count the calls,
 * know every key, and have the kernel refuse. */
#include "net/random.h"

#include "harness.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KEYS = 16, THREADS = 4, KEYS_EACH = 5000 };

static atomic_uint calls;       /* of getrandom() */
static bool counting;           /* each four bytes are the next number */
static atomic_uint next_number; /* of `counting` */
static int failure;             /* errno of the next calls, or 0 */
static size_t longest = SIZE_MAX;
static bool wipe_refused;

ssize_t
getrandom(void *buffer, size_t length, unsigned flags)
{
    unsigned call = atomic_fetch_add(&calls, 1);
    if (failure == EINTR && call % 2 == 0) {
        errno = EINTR;
        return -1;
    }
    if (failure != 0 && failure != EINTR) {
        errno = failure;
        return -1;
    }
    length = length < longest ? length : longest;
    if (!counting) {
        return syscall(SYS_getrandom, buffer, length, flags);
    }
    uint8_t *out = buffer;
    for (size_t i = 0; i + 4 <= length; i += 4) {
        unsigned number = atomic_fetch_add(&next_number, 1);
        memcpy(out + i, &number, 4);
    }
    return (ssize_t)length;
}

int
madvise(void *address, size_t length, int advice)
{
    if (advice == MADV_WIPEONFORK && wipe_refused) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_madvise, address, length, advice);
}

static void
take(struct tws_mask_pool *pool, uint32_t *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct tws_error err;
        uint8_t key[4];
        CHECK_INT(tws_mask_pool_take(pool, key, &err), TWS_OK);
        memcpy(&keys[i], key, 4);
    }
}

static size_t
count_common(const uint32_t *a, const uint32_t *b, size_t count)
{
    size_t common = 0;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++) {
            common += a[i] == b[j];
        }
    }
    return common;
}

TEST(bytes_of_any_length_differ)
{
    struct tws_error err;
    uint8_t a[300] = {0};
    uint8_t b[300] = {0};
    CHECK_INT(tws_random_bytes(a, 0, &err), TWS_OK);
    CHECK_INT(a[0], 0);
    CHECK_INT(tws_random_bytes(a, 299, &err), TWS_OK);
    CHECK_INT(tws_random_bytes(b, 299, &err), TWS_OK);
    CHECK(memcmp(a, b, 299) != 0);
    CHECK_INT(a[299], 0);
}

TEST(short_reads_and_signals_are_gone_on_from)
{
    struct tws_error err;
    uint32_t numbers[100];
    counting = true;
    longest = 12;
    failure = EINTR;
    atomic_store(&next_number, 7);
    CHECK_INT(tws_random_bytes(numbers, sizeof(numbers), &err), TWS_OK);
    for (unsigned i = 0; i < 100; i++) {
        CHECK_INT(numbers[i], 7 + i);
    }
    counting = false;
    longest = SIZE_MAX;
    failure = 0;
}

TEST(a_failure_is_reported_and_recovered_from)
{
    struct tws_error err;
    uint8_t key[4] = {1, 2, 3, 4};
    struct tws_mask_pool *pool = tws_mask_pool_new();
    failure = ENOSYS;
    CHECK_INT(tws_random_bytes(key, sizeof(key), &err), TWS_OS);
    CHECK_INT(err.sys_errno, ENOSYS);
    CHECK_INT(tws_mask_pool_take(pool, key, &err), TWS_OS);
    CHECK_INT(tws_mask_pool_take(pool, key, &err), TWS_OS);
    CHECK_BYTES(key, sizeof(key), "\1\2\3\4");
    failure = 0;
    CHECK_INT(tws_mask_pool_take(pool, key, &err), TWS_OK);
    tws_mask_pool_free(pool);
}

static void
two_pools_differ_with(bool refused)
{
    wipe_refused = refused;
    uint32_t a[KEYS];
    uint32_t b[KEYS];
    struct tws_mask_pool *one = tws_mask_pool_new();
    struct tws_mask_pool *other = tws_mask_pool_new();
    take(one, a, KEYS);
    take(other, b, KEYS);
    CHECK_INT(count_common(a, b, KEYS), 0);
    CHECK_INT(count_common(a, a, KEYS), KEYS); /* each only like itself */
    tws_mask_pool_free(one);
    tws_mask_pool_free(other);
    wipe_refused = false;
}

TEST(two_pools_differ)
{
    two_pools_differ_with(false);
    two_pools_differ_with(true);
    tws_mask_pool_free(NULL);
}

TEST(a_refill_serves_many_keys_once_each)
{
    enum { MANY = 10000 };
    static bool seen[2 * MANY];
    memset(seen, 0, sizeof(seen));
    struct tws_mask_pool *pool = tws_mask_pool_new();
    counting = true;
    atomic_store(&next_number, 0);
    atomic_store(&calls, 0);
    for (int i = 0; i < MANY; i++) {
        uint32_t key = 0;
        take(pool, &key, 1);
        CHECK(key < 2 * MANY && !seen[key]);
        seen[key % (2 * MANY)] = true;
    }
    CHECK(atomic_load(&calls) >= 2);
    CHECK(atomic_load(&calls) <= MANY / 64);
    /* Nothing of what was drawn is left out but the rest of the last. */
    CHECK(atomic_load(&next_number) < MANY + MANY / 8);
    counting = false;
    tws_mask_pool_free(pool);
}

struct taker {
    struct tws_mask_pool *pool;
    uint32_t keys[KEYS_EACH];
    int failed;
};

static void *
take_many(void *argument)
{
    struct taker *taker = argument;
    for (size_t i = 0; i < KEYS_EACH; i++) {
        struct tws_error err;
        uint8_t key[4] = {0};
        taker->failed += tws_mask_pool_take(taker->pool, key, &err) != TWS_OK;
        memcpy(&taker->keys[i], key, 4);
    }
    return NULL;
}

static void
threads_never_share_with(bool refused)
{
    enum { TOTAL = THREADS * KEYS_EACH };
    static struct taker takers[THREADS];
    static bool seen[2 * TOTAL];
    memset(seen, 0, sizeof(seen));
    pthread_t threads[THREADS];
    wipe_refused = refused;
    counting = true;
    atomic_store(&next_number, 0);
    struct tws_mask_pool *pool = tws_mask_pool_new();
    for (size_t i = 0; i < THREADS; i++) {
        takers[i] = (struct taker){.pool = pool};
        CHECK_INT(pthread_create(&threads[i], NULL, take_many, &takers[i]), 0);
    }
    size_t twice = 0;
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_join(threads[i], NULL), 0);
        CHECK_INT(takers[i].failed, 0);
        for (size_t j = 0; j < KEYS_EACH; j++) {
            uint32_t key = takers[i].keys[j];
            twice += key >= 2 * TOTAL || seen[key];
            seen[key % (2 * TOTAL)] = true;
        }
    }
    CHECK_INT(twice, 0);
    tws_mask_pool_free(pool);
    counting = false;
    wipe_refused = false;
}

TEST(threads_never_share_a_key)
{
    threads_never_share_with(false);
    threads_never_share_with(true);
}

/* Runs `body` in a child of this process; returns whether it ended well. */
static bool
in_child(void (*body)(struct tws_mask_pool *pool, int fd),
         struct tws_mask_pool *pool, int fd)
{
    pid_t child = fork();
    if (child == 0) {
        body(pool, fd);
        tws_mask_pool_free(pool);
        _exit(harness_failures == 0 ? 0 : 1);
    }
    int status;
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static void
send_keys(struct tws_mask_pool *pool, int fd)
{
    uint32_t keys[KEYS];
    take(pool, keys, KEYS);
    CHECK_INT(write(fd, keys, sizeof(keys)), sizeof(keys));
}

static void
send_keys_of_a_child_too(struct tws_mask_pool *pool, int fd)
{
    CHECK(in_child(send_keys, pool, fd));
    send_keys(pool, fd);
}

static void
fork_with(bool refused)
{
    wipe_refused = refused;
    struct tws_mask_pool *pool = tws_mask_pool_new();
    int ends[2];
    uint32_t keys[4][KEYS];
    CHECK_INT(pipe(ends), 0);
    take(pool, keys[0], 1); /* the block is full but for this one */
    CHECK(in_child(send_keys_of_a_child_too, pool, ends[1]));
    CHECK(in_child(send_keys, pool, ends[1]));
    ssize_t size = (ssize_t)sizeof(keys[0]);
    CHECK_INT(read(ends[0], keys[0], sizeof(keys[0])), size);
    CHECK_INT(read(ends[0], keys[1], sizeof(keys[1])), size);
    CHECK_INT(read(ends[0], keys[2], sizeof(keys[2])), size);
    take(pool, keys[3], KEYS);
    for (size_t i = 0; i < 4; i++) {
        for (size_t j = 0; j < i; j++) {
            CHECK_INT(count_common(keys[i], keys[j], KEYS), 0);
        }
    }
    (void)close(ends[0]);
    (void)close(ends[1]);
    tws_mask_pool_free(pool);
    wipe_refused = false;
}

TEST(a_forked_child_has_keys_of_its_own)
{
    fork_with(false);
}

TEST(a_forked_child_has_keys_of_its_own_where_nothing_is_wiped)
{
    fork_with(true);
}

struct hammer {
    struct tws_mask_pool *pool;
    atomic_bool stop;
};

static void *
take_until_told(void *argument)
{
    struct hammer *hammer = argument;
    while (!atomic_load(&hammer->stop)) {
        struct tws_error err;
        uint8_t key[4];
        (void)tws_mask_pool_take(hammer->pool, key, &err);
    }
    return NULL;
}

/* Sooner or later the fork comes while the other thread is inside; a child
 * that waited for it would do so for ever. */
static void
fork_beside_a_thread_with(bool refused)
{
    wipe_refused = refused;
    struct hammer hammer = {.pool = tws_mask_pool_new()};
    pthread_t thread;
    int ends[2];
    uint32_t keys[KEYS];
    CHECK_INT(pipe(ends), 0);
    CHECK_INT(pthread_create(&thread, NULL, take_until_told, &hammer), 0);
    for (int i = 0; i < 10; i++) {
        pid_t child = fork();
        if (child == 0) {
            (void)alarm(20);
            send_keys(hammer.pool, ends[1]);
            tws_mask_pool_free(hammer.pool);
            _exit(harness_failures == 0 ? 0 : 1);
        }
        int status = -1;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        if (status != 0) {
            break;
        }
        CHECK_INT(read(ends[0], keys, sizeof(keys)), sizeof(keys));
    }
    atomic_store(&hammer.stop, true);
    CHECK_INT(pthread_join(thread, NULL), 0);
    (void)close(ends[0]);
    (void)close(ends[1]);
    tws_mask_pool_free(hammer.pool);
    wipe_refused = false;
}

TEST(a_fork_while_a_thread_draws_leaves_no_lock_behind)
{
    fork_beside_a_thread_with(false);
    fork_beside_a_thread_with(true);
}

RUN(T(bytes_of_any_length_differ), T(short_reads_and_signals_are_gone_on_from),
    T(a_failure_is_reported_and_recovered_from), T(two_pools_differ),
    T(a_refill_serves_many_keys_once_each), T(threads_never_share_a_key),
    T(a_forked_child_has_keys_of_its_own),
    T(a_forked_child_has_keys_of_its_own_where_nothing_is_wiped),
    T(a_fork_while_a_thread_draws_leaves_no_lock_behind))
