#include "engine/spin.h"

#include "harness.h"

enum { SHORT = 10 * 1000, LONG = TWS_SPIN_MAX + 1 };

static char one;
static char other;

static void
wait_often(struct tws_spin *spin, const void *data, uint64_t waited,
           unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        tws_spin_note(spin, data, waited, tws_spin_is_worth_it(spin));
    }
}

/* How many short waits it takes until it is tried. */
static unsigned
waits_before_a_try(struct tws_spin *spin)
{
    unsigned count = 0;
    while (!tws_spin_is_worth_it(spin) && count < 1 << 20) {
        wait_often(spin, &one, SHORT, 1);
        count++;
    }
    return count;
}

TEST(many_short_waits_for_one_are_worth_it)
{
    struct tws_spin spin = {0};
    CHECK(!tws_spin_is_worth_it(&spin));
    CHECK(!tws_spin_watches(&spin));
    CHECK(!tws_spin_would_note(&spin, NULL));
    /* The first has not followed another of its kind. */
    CHECK_INT(waits_before_a_try(&spin), 17);
    CHECK(tws_spin_watches(&spin));
    CHECK(tws_spin_would_note(&spin, &one));
    CHECK(!tws_spin_would_note(&spin, &other));
    CHECK(!tws_spin_would_note(&spin, NULL));
    wait_often(&spin, &one, SHORT, 1000);
    CHECK(tws_spin_is_worth_it(&spin));
}

TEST(what_breaks_the_row_ends_it)
{
    struct tws_spin spin = {0};
    wait_often(&spin, &one, SHORT, 100);
    wait_often(&spin, &one, LONG, 1);
    CHECK(!tws_spin_is_worth_it(&spin));
    CHECK_INT(waits_before_a_try(&spin), 16);
    wait_often(&spin, NULL, SHORT, 1); /* two at a time, or a wake-up */
    CHECK(!tws_spin_is_worth_it(&spin));
    wait_often(&spin, NULL, SHORT, 100);
    CHECK(!tws_spin_is_worth_it(&spin));
    CHECK_INT(waits_before_a_try(&spin), 17);
    for (int i = 0; i < 100; i++) { /* two in turn */
        wait_often(&spin, &one, SHORT, 1);
        wait_often(&spin, &other, SHORT, 1);
    }
    CHECK(!tws_spin_is_worth_it(&spin));
}

TEST(in_vain_it_is_tried_ever_less)
{
    struct tws_spin spin = {0};
    unsigned before = waits_before_a_try(&spin);
    for (int i = 0; i < 10; i++) {
        tws_spin_fail(&spin);
        unsigned now = waits_before_a_try(&spin);
        CHECK(now > before);
        before = now;
    }
    CHECK_INT(before, 16 << 10);
    for (int i = 0; i < 100; i++) {
        tws_spin_fail(&spin);
    }
    CHECK_INT(waits_before_a_try(&spin), 16 << 10);
}

TEST(success_makes_up_for_it)
{
    struct tws_spin spin = {0};
    for (int i = 0; i < 10; i++) {
        tws_spin_fail(&spin);
    }
    (void)waits_before_a_try(&spin);
    wait_often(&spin, &one, SHORT, 16 * 10);
    tws_spin_note(&spin, NULL, 0, false);
    CHECK_INT(waits_before_a_try(&spin), 17);
}

TEST(the_row_does_not_overflow)
{
    struct tws_spin spin = {.last = &one, .streak = UINT32_MAX - 1};
    wait_often(&spin, &one, SHORT, 3);
    CHECK(tws_spin_is_worth_it(&spin));
}

RUN(T(many_short_waits_for_one_are_worth_it), T(what_breaks_the_row_ends_it),
    T(in_vain_it_is_tried_ever_less), T(success_makes_up_for_it),
    T(the_row_does_not_overflow))
