#include "engine/driver.h"

#include "harness.h"

static struct tws_driver
new_driver(void)
{
    struct tws_driver driver;
    struct tws_error err;
    memset(&driver, 0xff, sizeof(driver));
    CHECK_INT(tws_driver_init(&driver, &err), TWS_OK);
    return driver;
}

TEST(it_begins_with_scratch_and_nothing_else)
{
    struct tws_driver driver = new_driver();
    CHECK(driver.scratch != NULL);
    memset(driver.scratch, 0, TWS_SCRATCH_SIZE); /* all of it is there */
    CHECK_INT(driver.cursor.length, 0);
    CHECK_INT(tws_buffer_length(&driver.out), 0);
    CHECK(driver.client == NULL);
    CHECK(!driver.ending.over);
    tws_driver_release(&driver);
}

TEST(release_leaves_nothing_behind)
{
    struct tws_driver driver = new_driver();
    CHECK_INT(tws_buffer_append(&driver.out, "frames", 6), TWS_OK);
    tws_driver_release(&driver);
    CHECK(driver.scratch == NULL);
    CHECK(driver.out.memory == NULL);
    tws_driver_release(&driver); /* a second time is harmless */
}

TEST(an_ending_is_noted)
{
    struct tws_driver driver = new_driver();
    tws_driver_end(&driver, 1001, TWS_SPAN("so long"));
    CHECK(driver.ending.over);
    CHECK(!driver.ending.lost);
    CHECK(!driver.ending.ours);
    CHECK_INT(driver.ending.code, 1001);
    CHECK_BYTES(driver.ending.reason, driver.ending.reason_length, "so long");
    tws_driver_release(&driver);
}

TEST(a_new_ending_replaces_the_old_one)
{
    struct tws_driver driver = new_driver();
    tws_driver_end(&driver, 1002, TWS_SPAN("a rule was broken"));
    driver.ending.ours = true;
    driver.ending.lost = true;
    tws_driver_end(&driver, 1005, (struct tws_span){0});
    CHECK(driver.ending.over);
    CHECK(!driver.ending.lost);
    CHECK(!driver.ending.ours);
    CHECK_INT(driver.ending.code, 1005);
    CHECK_INT(driver.ending.reason_length, 0);
    tws_driver_release(&driver);
}

TEST(a_long_reason_is_cut)
{
    struct tws_driver driver = new_driver();
    char text[1000];
    memset(text, 'x', sizeof(text));
    struct tws_span reason = {.data = text, .length = sizeof(text)};
    tws_driver_end(&driver, 1000, reason);
    CHECK_INT(driver.ending.reason_length, sizeof(driver.ending.reason));
    reason.length = sizeof(driver.ending.reason);
    tws_driver_end(&driver, 1000, reason);
    CHECK_INT(driver.ending.reason_length, sizeof(driver.ending.reason));
    reason.length++;
    tws_driver_end(&driver, 1000, reason);
    CHECK_INT(driver.ending.reason_length, sizeof(driver.ending.reason));
    reason.length -= 2;
    tws_driver_end(&driver, 1000, reason);
    CHECK_INT(driver.ending.reason_length, sizeof(driver.ending.reason) - 1);
    CHECK(memcmp(driver.ending.reason, text, reason.length) == 0);
    tws_driver_release(&driver);
}

RUN(T(it_begins_with_scratch_and_nothing_else),
    T(release_leaves_nothing_behind), T(an_ending_is_noted),
    T(a_new_ending_replaces_the_old_one), T(a_long_reason_is_cut))
