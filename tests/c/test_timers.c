#include "loop/timers.h"

#include "harness.h"

#include <time.h>

/* A copy of the heap under other names that counts its comparisons. */
static uint64_t comparisons;
#define TWS_TIMERS_COMPARED() ((void)comparisons++)
#define tws_clock_now counted_clock_now
#define tws_timers_release counted_release
#define tws_timers_set counted_set
#define tws_timers_cancel counted_cancel
#define tws_timers_next counted_next
#define tws_timers_pop counted_pop
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#include "../../csrc/loop/timers.c"
#pragma GCC diagnostic pop
#undef tws_clock_now
#undef tws_timers_release
#undef tws_timers_set
#undef tws_timers_cancel
#undef tws_timers_next
#undef tws_timers_pop

enum { MANY = 100000 };

static uint64_t
next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

TEST(the_clock_is_monotonic_nanoseconds)
{
    uint64_t before = tws_clock_now();
    struct timespec pause = {.tv_nsec = 3000000};
    CHECK_INT(nanosleep(&pause, NULL), 0);
    struct timespec now;
    CHECK_INT(clock_gettime(CLOCK_MONOTONIC, &now), 0);
    uint64_t after = tws_clock_now();
    CHECK(after - before >= 3000000);
    uint64_t middle =
        (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    CHECK(before < middle && middle <= after);
}

TEST(nothing_is_set_at_first)
{
    struct tws_timers timers = {0};
    struct tws_timer timer = {0};
    CHECK(tws_timers_next(&timers) == UINT64_MAX);
    CHECK(tws_timers_pop(&timers, UINT64_MAX) == NULL);
    tws_timers_cancel(&timers, &timer);
    CHECK_INT(timers.count, 0);
    tws_timers_release(&timers);
}

TEST(a_timer_is_due_at_its_deadline)
{
    struct tws_timers timers = {0};
    struct tws_timer timer = {0};
    CHECK_INT(tws_timers_set(&timers, &timer, 1000), TWS_OK);
    CHECK(timer.position != 0);
    CHECK_INT(tws_timers_next(&timers), 1000);
    CHECK(tws_timers_pop(&timers, 999) == NULL);
    CHECK(tws_timers_pop(&timers, 1000) == &timer);
    CHECK_INT(timer.position, 0);
    CHECK(tws_timers_pop(&timers, UINT64_MAX) == NULL);
    /* The extremes are deadlines like any other. */
    CHECK_INT(tws_timers_set(&timers, &timer, UINT64_MAX), TWS_OK);
    CHECK(tws_timers_pop(&timers, UINT64_MAX - 1) == NULL);
    CHECK(tws_timers_pop(&timers, UINT64_MAX) == &timer);
    CHECK_INT(tws_timers_set(&timers, &timer, 0), TWS_OK);
    CHECK_INT(tws_timers_next(&timers), 0);
    CHECK(tws_timers_pop(&timers, 0) == &timer);
    tws_timers_release(&timers);
}

TEST(a_set_timer_moves)
{
    struct tws_timers timers = {0};
    struct tws_timer a = {0};
    struct tws_timer b = {0};
    CHECK_INT(tws_timers_set(&timers, &a, 10), TWS_OK);
    CHECK_INT(tws_timers_set(&timers, &b, 20), TWS_OK);
    CHECK_INT(tws_timers_set(&timers, &a, 30), TWS_OK);
    CHECK_INT(timers.count, 2);
    CHECK_INT(tws_timers_next(&timers), 20);
    CHECK_INT(tws_timers_set(&timers, &a, 5), TWS_OK);
    CHECK_INT(tws_timers_next(&timers), 5);
    tws_timers_cancel(&timers, &a);
    tws_timers_cancel(&timers, &a);
    CHECK(tws_timers_pop(&timers, 100) == &b);
    CHECK(tws_timers_pop(&timers, 100) == NULL);
    tws_timers_release(&timers);
}

TEST(timers_still_set_may_be_gone_before_the_release)
{
    struct tws_timers timers = {0};
    struct tws_timer *timer = calloc(1, sizeof(*timer));
    CHECK_INT(tws_timers_set(&timers, timer, 1), TWS_OK);
    free(timer);
    tws_timers_release(&timers);
    CHECK_INT(timers.count, 0);
    CHECK(timers.heap == NULL);
    struct tws_timer other = {0};
    CHECK_INT(tws_timers_set(&timers, &other, 1), TWS_OK);
    tws_timers_release(&timers);
}

TEST(no_room_leaves_the_timer_as_it_was)
{
    struct tws_timer timer = {0};
    struct tws_timers timers = {.count = SIZE_MAX, .capacity = SIZE_MAX};
    CHECK_INT(tws_timers_set(&timers, &timer, 1), TWS_NOMEM);
    CHECK_INT(timer.position, 0);
    CHECK_INT(timer.position, 0);
    CHECK(timers.count == SIZE_MAX);
}

enum { MODELLED = 200, STEPS = 30000 };

/* The model: which are set, and till when. */
struct model {
    bool set[MODELLED];
    uint64_t deadline[MODELLED];
};

static uint64_t
model_next(const struct model *model)
{
    uint64_t next = UINT64_MAX;
    for (size_t i = 0; i < MODELLED; i++) {
        if (model->set[i] && model->deadline[i] < next) {
            next = model->deadline[i];
        }
    }
    return next;
}

static void
check_heap(const struct tws_timers *timers, const struct tws_timer *all,
           const struct model *model)
{
    size_t set = 0;
    size_t wrong = 0;
    for (size_t i = 0; i < MODELLED; i++) {
        size_t position = all[i].position;
        set += model->set[i];
        if (!model->set[i]) {
            wrong += position != 0;
        }
        else if (position == 0 || position > timers->count
                 || timers->heap[position - 1].timer != &all[i]
                 || timers->heap[position - 1].deadline
                        != model->deadline[i]) {
            wrong++;
        }
    }
    CHECK_INT(timers->count, set);
    CHECK_INT(wrong, 0);
    CHECK(tws_timers_next(timers) == model_next(model));
}

static void
agree_with_a_naive_model(size_t in_use)
{
    struct tws_timer all[MODELLED] = {0};
    struct model model = {0};
    struct tws_timers timers = {0};
    uint64_t random = 0x9e3779b97f4a7c15 + in_use;
    uint64_t popped = 0;
    for (int step = 0; step < STEPS; step++) {
        size_t i = next_random(&random) % in_use;
        uint64_t deadline = next_random(&random) % 1000;
        uint64_t choice = next_random(&random) % 8;
        if (choice < 4) {
            CHECK_INT(tws_timers_set(&timers, &all[i], deadline), TWS_OK);
            model.set[i] = true;
            model.deadline[i] = deadline;
        }
        else if (choice < 6) {
            tws_timers_cancel(&timers, &all[i]);
            model.set[i] = false;
        }
        else {
            uint64_t now = in_use <= 20 ? deadline : deadline / 20;
            uint64_t next = model_next(&model);
            struct tws_timer *timer = tws_timers_pop(&timers, now);
            CHECK((timer != NULL) == (next <= now));
            if (timer != NULL) {
                CHECK(model.deadline[timer - all] == next);
                model.set[timer - all] = false;
                popped++;
            }
        }
        check_heap(&timers, all, &model);
    }
    CHECK(popped > STEPS / 50);
    uint64_t last = 0;
    struct tws_timer *timer = tws_timers_pop(&timers, UINT64_MAX);
    while (timer != NULL) {
        CHECK(model.deadline[timer - all] >= last);
        last = model.deadline[timer - all];
        model.set[timer - all] = false;
        timer = tws_timers_pop(&timers, UINT64_MAX);
    }
    check_heap(&timers, all, &model);
    tws_timers_release(&timers);
}

TEST(random_changes_agree_with_a_naive_model)
{
    /* In a small heap a wrong place is soon at the top, where it shows. */
    static const size_t in_use[] = {1, 2, 3, 4, 5, 8, 20, MODELLED};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(in_use); i++) {
        agree_with_a_naive_model(in_use[i]);
    }
}

/* What one change may cost among MANY: four comparisons a level. */
enum { LEVELS = 9, PER_CHANGE = 4 * LEVELS + 1 };

TEST(a_hundred_thousand_timers_are_cheap)
{
    struct tws_timer *all = calloc(MANY, sizeof(*all));
    uint64_t *deadlines = calloc(MANY, sizeof(*deadlines));
    struct tws_timers timers = {0};
    uint64_t random = 88172645463325252;
    uint64_t worst = 0;
    /* Each is earlier than all before: the dearest order. */
    for (size_t i = 0; i < MANY; i++) {
        uint64_t before = comparisons;
        deadlines[i] = 2 * MANY - i;
        CHECK_INT(counted_set(&timers, &all[i], deadlines[i]), TWS_OK);
        uint64_t cost = comparisons - before;
        worst = cost > worst ? cost : worst;
    }
    CHECK_INT(worst, LEVELS);
    worst = 0;
    for (size_t step = 0; step < 2 * MANY; step++) {
        size_t i = next_random(&random) % MANY;
        uint64_t before = comparisons;
        if (step % 2 == 0) {
            deadlines[i] = next_random(&random) % (4 * MANY);
            CHECK_INT(counted_set(&timers, &all[i], deadlines[i]), TWS_OK);
        }
        else {
            counted_cancel(&timers, &all[i]);
        }
        uint64_t cost = comparisons - before;
        worst = cost > worst ? cost : worst;
    }
    uint64_t last = 0;
    while (timers.count > 0) {
        uint64_t before = comparisons;
        struct tws_timer *timer = counted_pop(&timers, UINT64_MAX);
        CHECK(timer != NULL && deadlines[timer - all] >= last);
        last = deadlines[timer - all];
        uint64_t cost = comparisons - before;
        worst = cost > worst ? cost : worst;
    }
    CHECK(worst >= LEVELS);
    CHECK(worst <= PER_CHANGE);
    /* Looking costs none. */
    uint64_t before = comparisons;
    CHECK(counted_next(&timers) == UINT64_MAX);
    CHECK(counted_pop(&timers, 0) == NULL);
    CHECK(comparisons == before);
    counted_release(&timers);
    free(deadlines);
    free(all);
}

RUN(T(the_clock_is_monotonic_nanoseconds), T(nothing_is_set_at_first),
    T(a_timer_is_due_at_its_deadline), T(a_set_timer_moves),
    T(timers_still_set_may_be_gone_before_the_release),
    T(no_room_leaves_the_timer_as_it_was),
    T(random_changes_agree_with_a_naive_model),
    T(a_hundred_thousand_timers_are_cheap))
