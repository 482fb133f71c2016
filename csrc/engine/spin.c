#include "engine/spin.h"

enum {
    STREAK_MIN = 16,   /* short waits before the first try */
    FAILURES_MAX = 10, /* then 16 << 10 of them */
};

bool
tws_spin_is_worth_it(const struct tws_spin *spin)
{
    return spin->streak >= (uint32_t)STREAK_MIN << spin->failures;
}

void
tws_spin_note(struct tws_spin *spin, const void *data, uint64_t waited,
              bool spinning)
{
    if (data == NULL || data != spin->last || waited > TWS_SPIN_MAX) {
        spin->last = data;
        spin->streak = 0;
        return;
    }
    if (spin->streak < UINT32_MAX) {
        spin->streak++;
    }
    if (spinning && spin->failures > 0 && spin->streak % STREAK_MIN == 0) {
        spin->failures--;
    }
}

void
tws_spin_fail(struct tws_spin *spin)
{
    spin->streak = 0;
    if (spin->failures < FAILURES_MAX) {
        spin->failures++;
    }
}
