#include "scarce_zlib.h"

#include "harness.h"
#include "protocol/deflate_pool.h"

#include <pthread.h>

static const struct tws_deflate_settings settings = {
    .window_bits = 12, .mem_level = 5, .level = 6};

static struct tws_deflate_pool *
new_pool(void)
{
    struct tws_deflate_pool *pool = tws_deflate_pool_new();
    if (pool == NULL) {
        abort();
    }
    return pool;
}

/* "Hello" as the deflater makes it, in hexadecimal. */
static const char *
hello(struct tws_deflater *deflater)
{
    static char text[64];
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    size_t length = 0;
    CHECK_INT(tws_deflater_add(deflater, TWS_SPAN("Hello"), true, &out, &err),
              TWS_OK);
    for (size_t i = 0; i < tws_buffer_length(&out) && i < 30; i++) {
        length += (size_t)snprintf(text + length, sizeof(text) - length,
                                   "%02x", tws_buffer_data(&out)[i]);
    }
    tws_buffer_release(&out);
    return text;
}

/* Inflates one of the examples of RFC 7692 §7.2.3: "Hello", the second one
 * with reference to the first. */
static enum tws_status
inflate_hello(struct tws_inflater *inflater, bool second)
{
    uint8_t data[7] = {0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00};
    uint8_t more[5] = {0xf2, 0x00, 0x11, 0x00, 0x00};
    uint8_t room[16];
    size_t got;
    struct tws_error err;
    struct tws_input input = {.data = data, .length = sizeof(data)};
    if (second) {
        input = (struct tws_input){.data = more, .length = sizeof(more)};
    }
    enum tws_status status =
        tws_inflater_read(inflater, &input, room, sizeof(room), &got, &err);
    if (status == TWS_OK) {
        CHECK_BYTES(room, got, "Hello");
        status = tws_inflater_end(inflater, room, sizeof(room), &got, &err);
    }
    return status;
}

TEST(what_was_given_is_taken_again)
{
    struct tws_deflate_pool *pool = new_pool();
    struct tws_deflater *deflater =
        tws_deflate_pool_take_deflater(pool, &settings);
    struct tws_inflater *inflater = tws_deflate_pool_take_inflater(pool, 12);
    tws_deflate_pool_give_deflater(pool, deflater);
    tws_deflate_pool_give_inflater(pool, inflater);
    int before = zlib_allocations;
    CHECK(tws_deflate_pool_take_deflater(pool, &settings) == deflater);
    CHECK(tws_deflate_pool_take_inflater(pool, 12) == inflater);
    CHECK_INT(zlib_allocations, before);
    /* Each once. */
    struct tws_deflater *other =
        tws_deflate_pool_take_deflater(pool, &settings);
    CHECK(other != deflater);
    CHECK(zlib_allocations > before);
    tws_deflater_free(other);
    tws_deflater_free(deflater);
    tws_inflater_free(inflater);
    tws_deflate_pool_release(pool);
}

TEST(it_comes_without_a_history)
{
    struct tws_deflate_pool *pool = new_pool();
    struct tws_deflater *deflater =
        tws_deflate_pool_take_deflater(pool, &settings);
    struct tws_inflater *inflater = tws_deflate_pool_take_inflater(pool, 15);
    char first[64];
    (void)snprintf(first, sizeof(first), "%s", hello(deflater));
    CHECK(strcmp(hello(deflater), first) != 0);
    CHECK_INT(inflate_hello(inflater, false), TWS_OK);
    CHECK_INT(inflate_hello(inflater, true), TWS_OK);
    tws_deflate_pool_give_deflater(pool, deflater);
    tws_deflate_pool_give_inflater(pool, inflater);
    CHECK(tws_deflate_pool_take_deflater(pool, &settings) == deflater);
    CHECK(tws_deflate_pool_take_inflater(pool, 15) == inflater);
    CHECK(strcmp(hello(deflater), first) == 0);
    CHECK_INT(inflate_hello(inflater, true), TWS_PROTOCOL);
    /* After a failure as well. */
    tws_deflate_pool_give_inflater(pool, inflater);
    CHECK(tws_deflate_pool_take_inflater(pool, 15) == inflater);
    CHECK_INT(inflate_hello(inflater, false), TWS_OK);
    tws_deflate_pool_give_deflater(pool, deflater);
    tws_deflate_pool_give_inflater(pool, inflater);
    tws_deflate_pool_release(pool);
}

TEST(it_is_of_the_settings_asked_for)
{
    static const struct tws_deflate_settings others[] = {
        {.window_bits = 11, .mem_level = 5, .level = 6},
        {.window_bits = 12, .mem_level = 6, .level = 6},
        {.window_bits = 12, .mem_level = 5, .level = -1},
        {.window_bits = 12, .mem_level = 5, .level = 6},
    };
    struct tws_deflate_pool *pool = new_pool();
    struct tws_deflater *deflaters[TWS_ARRAY_SIZE(others)];
    struct tws_inflater *inflaters[8];
    for (size_t i = 0; i < TWS_ARRAY_SIZE(others); i++) {
        deflaters[i] = tws_deflate_pool_take_deflater(pool, &others[i]);
    }
    for (size_t i = 0; i < TWS_ARRAY_SIZE(others); i++) {
        tws_deflate_pool_give_deflater(pool, deflaters[i]);
    }
    for (unsigned i = 0; i < 8; i++) {
        inflaters[i] = tws_deflate_pool_take_inflater(pool, 8 + i);
    }
    for (size_t i = 0; i < 8; i++) {
        tws_deflate_pool_give_inflater(pool, inflaters[i]);
    }
    int before = zlib_allocations;
    for (int round = 0; round < 3; round++) {
        for (size_t i = TWS_ARRAY_SIZE(others); i-- > 0;) {
            CHECK(tws_deflate_pool_take_deflater(pool, &others[i])
                  == deflaters[i]);
            CHECK(memcmp(tws_deflater_settings(deflaters[i]), &others[i],
                         sizeof(others[i]))
                  == 0);
            if (round == 1) {
                tws_deflate_pool_give_deflater(pool, deflaters[i]);
            }
        }
        for (size_t i = 0; i < TWS_ARRAY_SIZE(others) && round != 1; i++) {
            tws_deflate_pool_give_deflater(pool, deflaters[i]);
        }
        for (unsigned i = 8; i-- > 0;) {
            CHECK(tws_deflate_pool_take_inflater(pool, 8 + i) == inflaters[i]);
            CHECK_INT(tws_inflater_window_bits(inflaters[i]), 8 + i);
            tws_deflate_pool_give_inflater(pool, inflaters[i]);
        }
    }
    CHECK_INT(zlib_allocations, before);
    tws_deflate_pool_release(pool);
}

/* What does not fit stays for others. */
TEST(others_are_left_alone)
{
    struct tws_deflate_settings other = settings;
    struct tws_deflate_pool *pool = new_pool();
    struct tws_deflater *deflater =
        tws_deflate_pool_take_deflater(pool, &settings);
    struct tws_inflater *inflater = tws_deflate_pool_take_inflater(pool, 9);
    other.level = 1;
    tws_deflate_pool_give_deflater(pool, deflater);
    tws_deflate_pool_give_inflater(pool, inflater);
    struct tws_deflater *new_deflater =
        tws_deflate_pool_take_deflater(pool, &other);
    struct tws_inflater *new_inflater =
        tws_deflate_pool_take_inflater(pool, 10);
    CHECK(new_deflater != deflater);
    CHECK(new_inflater != inflater);
    CHECK_INT(tws_inflater_window_bits(new_inflater), 10);
    CHECK(tws_deflate_pool_take_deflater(pool, &settings) == deflater);
    CHECK(tws_deflate_pool_take_inflater(pool, 9) == inflater);
    tws_deflater_free(new_deflater);
    tws_inflater_free(new_inflater);
    tws_deflate_pool_give_deflater(pool, deflater);
    tws_deflate_pool_give_inflater(pool, inflater);
    tws_deflate_pool_release(pool);
}

/* Not more than 8, and the last ones rather than the first. */
TEST(few_are_kept)
{
    enum { MANY = 20 };
    static const struct tws_deflate_settings late = {
        .window_bits = 9, .mem_level = 1, .level = 1};
    struct tws_deflate_pool *pool = new_pool();
    struct tws_deflater *deflaters[MANY];
    struct tws_inflater *inflaters[MANY];
    for (int i = 0; i < MANY; i++) {
        deflaters[i] = tws_deflate_pool_take_deflater(pool, &settings);
        inflaters[i] = tws_deflate_pool_take_inflater(pool, 15);
    }
    struct tws_deflater *deflater =
        tws_deflate_pool_take_deflater(pool, &late);
    struct tws_inflater *inflater = tws_deflate_pool_take_inflater(pool, 9);
    for (int i = 0; i < MANY; i++) {
        tws_deflate_pool_give_deflater(pool, deflaters[i]);
        tws_deflate_pool_give_inflater(pool, inflaters[i]);
    }
    tws_deflate_pool_give_deflater(pool, deflater);
    tws_deflate_pool_give_inflater(pool, inflater);
    int before = zlib_allocations;
    CHECK(tws_deflate_pool_take_deflater(pool, &late) == deflater);
    CHECK(tws_deflate_pool_take_inflater(pool, 9) == inflater);
    for (int i = 0; i < 7; i++) {
        deflaters[i] = tws_deflate_pool_take_deflater(pool, &settings);
        inflaters[i] = tws_deflate_pool_take_inflater(pool, 15);
    }
    CHECK_INT(zlib_allocations, before);
    tws_deflater_free(tws_deflate_pool_take_deflater(pool, &settings));
    CHECK(zlib_allocations > before);
    before = zlib_allocations;
    tws_inflater_free(tws_deflate_pool_take_inflater(pool, 15));
    CHECK(zlib_allocations > before);
    for (int i = 0; i < 7; i++) {
        tws_deflater_free(deflaters[i]);
        tws_inflater_free(inflaters[i]);
    }
    tws_deflater_free(deflater);
    tws_inflater_free(inflater);
    tws_deflate_pool_release(pool);
}

TEST(the_last_reference_frees_it)
{
    struct tws_deflate_pool *pool = new_pool();
    CHECK(tws_deflate_pool_retain(pool) == pool);
    tws_deflate_pool_give_deflater(
        pool, tws_deflate_pool_take_deflater(pool, &settings));
    tws_deflate_pool_release(pool);
    struct tws_deflater *deflater =
        tws_deflate_pool_take_deflater(pool, &settings);
    CHECK(strlen(hello(deflater)) > 0);
    tws_deflate_pool_give_deflater(pool, deflater);
    tws_deflate_pool_give_deflater(pool, NULL);
    tws_deflate_pool_give_inflater(pool, NULL);
    tws_deflate_pool_release(pool);
    tws_deflate_pool_release(NULL);
}

TEST(no_memory)
{
    struct tws_deflate_pool *pool = new_pool();
    zlib_allocations_left = 0;
    CHECK(tws_deflate_pool_take_deflater(pool, &settings) == NULL);
    CHECK(tws_deflate_pool_take_inflater(pool, 15) == NULL);
    zlib_allocations_left = -1;
    tws_deflate_pool_release(pool);
}

/* Keeping ------------------------------------------------------------------
 */

TEST(only_who_talks_often_may_keep_one)
{
    struct tws_deflate_pool *pool = new_pool();
    struct tws_tenure often = {0};
    struct tws_tenure seldom = {0};
    CHECK(!tws_tenure_extend(&often, pool, TWS_OUT)); /* its first message */
    CHECK(tws_tenure_extend(&often, pool, TWS_OUT));
    CHECK(!tws_tenure_extend(&seldom, pool, TWS_OUT));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < TWS_KEPT_MAX; i++) {
            CHECK(tws_tenure_extend(&often, pool, TWS_OUT));
        }
        CHECK(!tws_tenure_extend(&seldom, pool, TWS_OUT));
    }
    /* It may be so near. */
    for (int i = 0; i < TWS_KEPT_MAX - 1; i++) {
        CHECK(tws_tenure_extend(&often, pool, TWS_OUT));
    }
    CHECK(tws_tenure_extend(&seldom, pool, TWS_OUT));
    /* The other direction has numbers of its own. */
    for (int i = 0; i < TWS_KEPT_MAX; i++) {
        (void)tws_tenure_extend(&often, pool, TWS_IN);
    }
    CHECK(tws_tenure_extend(&seldom, pool, TWS_OUT));
    tws_deflate_pool_release(pool);
}

TEST(numbers_begin_again)
{
    struct tws_deflate_pool *pool = new_pool();
    struct tws_tenure tenure = {.last = UINT32_MAX - 2, .begun = true};
    /* The pool's own count is at 0, 3 messages later. */
    CHECK(tws_tenure_extend(&tenure, pool, TWS_IN));
    CHECK_INT(tenure.last, 0);
    tws_deflate_pool_release(pool);
}

TEST(places_are_given_back)
{
    enum { MANY = TWS_KEPT_MAX + 1 };
    struct tws_deflate_pool *pool = new_pool();
    struct tws_tenure tenures[MANY] = {{0}};
    for (int i = 0; i < MANY; i++) {
        CHECK(!tws_tenure_extend(&tenures[i], pool, TWS_IN));
        CHECK_INT(tws_tenure_extend(&tenures[i], pool, TWS_IN),
                  i < TWS_KEPT_MAX);
    }
    struct tws_tenure *last = &tenures[TWS_KEPT_MAX];
    tws_tenure_end(last, pool, TWS_IN); /* it has none */
    CHECK(!tws_tenure_extend(last, pool, TWS_IN));
    tws_tenure_end(&tenures[3], pool, TWS_IN);
    tws_tenure_end(&tenures[3], pool, TWS_IN);
    CHECK(tws_tenure_extend(last, pool, TWS_IN));
    CHECK(!tws_tenure_extend(&tenures[3], pool, TWS_IN));
    tws_deflate_pool_release(pool);
}

TEST(idle_is_who_says_nothing_between_two_looks)
{
    struct tws_deflate_pool *pool = new_pool();
    struct tws_tenure tenure = {0};
    CHECK(tws_tenure_is_idle(&tenure));
    for (int i = 0; i < 2; i++) {
        (void)tws_tenure_extend(&tenure, pool, TWS_OUT);
    }
    CHECK(!tws_tenure_is_idle(&tenure));
    CHECK(tws_tenure_is_idle(&tenure));
    CHECK(tws_tenure_is_idle(&tenure));
    (void)tws_tenure_extend(&tenure, pool, TWS_OUT);
    CHECK(!tws_tenure_is_idle(&tenure));
    tws_deflate_pool_release(pool);
}

/* The last to leave, whoever else is looking. */
TEST(nothing_is_idle_where_nobody_borrows)
{
    struct tws_deflate_pool *pool = new_pool();
    tws_deflate_pool_enter(pool);
    tws_deflate_pool_enter(pool);
    tws_deflate_pool_give_deflater(
        pool, tws_deflate_pool_take_deflater(pool, &settings));
    tws_deflate_pool_give_inflater(pool,
                                   tws_deflate_pool_take_inflater(pool, 9));
    tws_deflate_pool_leave(pool);
    int before = zlib_allocations;
    tws_deflate_pool_give_inflater(pool,
                                   tws_deflate_pool_take_inflater(pool, 9));
    CHECK_INT(zlib_allocations, before);
    tws_deflate_pool_leave(pool);
    tws_deflate_pool_give_inflater(pool,
                                   tws_deflate_pool_take_inflater(pool, 9));
    CHECK(zlib_allocations > before);
    before = zlib_allocations;
    tws_deflate_pool_give_deflater(
        pool, tws_deflate_pool_take_deflater(pool, &settings));
    CHECK(zlib_allocations > before);
    tws_deflate_pool_release(pool);
}

/* Threads ------------------------------------------------------------------
 */

struct worker {
    struct tws_deflate_pool *pool;
    pthread_barrier_t *start;
    unsigned number;
    unsigned kept;
    int failures;
};

enum { KEEPERS = 20 }; /* of each thread */

static void *
work(void *argument)
{
    struct worker *worker = argument;
    struct tws_tenure tenures[KEEPERS] = {{0}};
    (void)pthread_barrier_wait(worker->start);
    for (unsigned i = 0; i < 2000; i++) {
        struct tws_tenure *tenure = &tenures[i % KEEPERS];
        if (i % 100 == 0) {
            tws_deflate_pool_enter(worker->pool);
        }
        worker->kept += tws_tenure_extend(tenure, worker->pool, TWS_OUT);
        if (i % 7 == 0) {
            tws_tenure_end(tenure, worker->pool, TWS_OUT);
        }
        struct tws_deflate_settings with = settings;
        with.window_bits = (uint8_t)(9 + (i + worker->number) % 3);
        struct tws_deflater *deflater =
            tws_deflate_pool_take_deflater(worker->pool, &with);
        struct tws_inflater *inflater =
            tws_deflate_pool_take_inflater(worker->pool, 9 + i % 3);
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        struct tws_error err;
        uint8_t room[64];
        size_t got = 0;
        char text[32];
        int length = snprintf(text, sizeof(text), "%u of %u, %u of %u", i,
                              worker->number, i, worker->number);
        struct tws_span data = {.data = text, .length = (size_t)length};
        /* Two contexts of one owner, and nothing of others. */
        if (deflater == NULL || inflater == NULL
            || tws_deflater_settings(deflater)->window_bits != with.window_bits
            || tws_deflater_add(deflater, data, true, &out, &err) != TWS_OK) {
            worker->failures++;
        }
        else {
            struct tws_input input = {.data = tws_buffer_data(&out),
                                      .length = tws_buffer_length(&out)};
            if (tws_inflater_read(inflater, &input, room, sizeof(room), &got,
                                  &err)
                    != TWS_OK
                || got != data.length || memcmp(room, text, got) != 0) {
                worker->failures++;
            }
        }
        tws_buffer_release(&out);
        tws_deflate_pool_give_deflater(worker->pool, deflater);
        tws_deflate_pool_give_inflater(worker->pool, inflater);
        if (i % 100 == 99) {
            tws_deflate_pool_leave(worker->pool);
        }
    }
    for (unsigned i = 0; i < KEEPERS; i++) {
        tws_tenure_end(&tenures[i], worker->pool, TWS_OUT);
    }
    tws_deflate_pool_release(worker->pool);
    return NULL;
}

TEST(many_threads)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    struct worker workers[THREADS];
    pthread_barrier_t start;
    struct tws_deflate_pool *pool = new_pool();
    CHECK_INT(pthread_barrier_init(&start, NULL, THREADS), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){
            .pool = tws_deflate_pool_retain(pool),
            .start = &start,
            .number = i,
        };
        CHECK_INT(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_join(threads[i], NULL), 0);
        CHECK_INT(workers[i].failures, 0);
        CHECK(workers[i].kept > 0);
    }
    /* All places are free again. */
    for (int i = 0; i <= TWS_KEPT_MAX; i++) {
        struct tws_tenure tenure = {0};
        (void)tws_tenure_extend(&tenure, pool, TWS_OUT);
        CHECK_INT(tws_tenure_extend(&tenure, pool, TWS_OUT), i < TWS_KEPT_MAX);
    }
    tws_deflate_pool_release(pool);
    CHECK_INT(pthread_barrier_destroy(&start), 0);
}

RUN(T(what_was_given_is_taken_again), T(it_comes_without_a_history),
    T(it_is_of_the_settings_asked_for), T(others_are_left_alone),
    T(few_are_kept), T(the_last_reference_frees_it), T(no_memory),
    T(many_threads), T(only_who_talks_often_may_keep_one),
    T(numbers_begin_again), T(places_are_given_back),
    T(idle_is_who_says_nothing_between_two_looks),
    T(nothing_is_idle_where_nobody_borrows))
