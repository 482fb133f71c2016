#include "protocol/buffer.h"

#include "harness.h"

/* Lets malloc() fail under AddressSanitizer as it does without. */
const char *__asan_default_options(void);

const char *
__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

/* The byte that stands at `position` of the stream in all tests. */
static uint8_t
stream_byte(size_t position)
{
    return (uint8_t)(position * 7 + position / 251);
}

static void
append_stream(struct tws_buffer *buffer, size_t position, size_t length)
{
    uint8_t *bytes = malloc(length + 1);
    CHECK(bytes != NULL);
    for (size_t i = 0; i < length; i++) {
        bytes[i] = stream_byte(position + i);
    }
    CHECK_INT(tws_buffer_append(buffer, bytes, length), TWS_OK);
    free(bytes);
}

static bool
holds_stream(const struct tws_buffer *buffer, size_t position, size_t length)
{
    if (tws_buffer_length(buffer) != length) {
        return false;
    }
    const uint8_t *data = length > 0 ? tws_buffer_data(buffer) : NULL;
    for (size_t i = 0; i < length; i++) {
        if (data[i] != stream_byte(position + i)) {
            return false;
        }
    }
    return buffer->start <= buffer->end && buffer->end <= buffer->capacity;
}

TEST(an_empty_buffer_holds_no_memory)
{
    struct tws_buffer buffer = TWS_BUFFER_EMPTY;
    uint8_t *room = (uint8_t *)"";
    CHECK_INT(tws_buffer_length(&buffer), 0);
    CHECK_INT(tws_buffer_append(&buffer, NULL, 0), TWS_OK);
    CHECK_INT(tws_buffer_reserve(&buffer, 0, &room), TWS_OK);
    CHECK(room == NULL);
    tws_buffer_commit(&buffer, 0);
    tws_buffer_consume(&buffer, 0);
    CHECK(buffer.memory == NULL);
    CHECK_INT(buffer.capacity, 0);
    tws_buffer_release(&buffer);
}

TEST(what_goes_in_comes_out_in_order)
{
    struct tws_buffer buffer = TWS_BUFFER_EMPTY;
    CHECK_INT(tws_buffer_append(&buffer, "abc", 3), TWS_OK);
    CHECK_INT(tws_buffer_append(&buffer, "defg", 4), TWS_OK);
    CHECK_BYTES(tws_buffer_data(&buffer), tws_buffer_length(&buffer),
                "abcdefg");
    tws_buffer_consume(&buffer, 2);
    CHECK_BYTES(tws_buffer_data(&buffer), tws_buffer_length(&buffer), "cdefg");
    tws_buffer_consume(&buffer, 5);
    CHECK_INT(tws_buffer_length(&buffer), 0);
    CHECK_INT(buffer.start, 0);
    tws_buffer_release(&buffer);
}

TEST(what_went_in_last_can_be_withdrawn)
{
    struct tws_buffer buffer = TWS_BUFFER_EMPTY;
    CHECK_INT(tws_buffer_append(&buffer, "abcdefg", 7), TWS_OK);
    tws_buffer_consume(&buffer, 2);
    tws_buffer_withdraw(&buffer, 3);
    CHECK_INT(tws_buffer_append(&buffer, "xy", 2), TWS_OK);
    CHECK_BYTES(tws_buffer_data(&buffer), tws_buffer_length(&buffer), "cdxy");
    tws_buffer_withdraw(&buffer, 0);
    tws_buffer_withdraw(&buffer, 4);
    CHECK_INT(tws_buffer_length(&buffer), 0);
    CHECK_INT(buffer.start, 0);
    tws_buffer_release(&buffer);
}

TEST(reserved_room_counts_when_it_is_committed)
{
    struct tws_buffer buffer = TWS_BUFFER_EMPTY;
    uint8_t *room = NULL;
    CHECK_INT(tws_buffer_append(&buffer, "ab", 2), TWS_OK);
    CHECK_INT(tws_buffer_reserve(&buffer, 1000, &room), TWS_OK);
    memset(room, 'x', 1000);
    CHECK_INT(tws_buffer_length(&buffer), 2);
    memcpy(room, "cde", 3);
    tws_buffer_commit(&buffer, 3);
    CHECK_BYTES(tws_buffer_data(&buffer), tws_buffer_length(&buffer), "abcde");
    /* All of it may be used, to the last byte. */
    CHECK_INT(tws_buffer_reserve(&buffer, 997, &room), TWS_OK);
    memset(room, 'y', 997);
    tws_buffer_commit(&buffer, 997);
    CHECK_INT(tws_buffer_length(&buffer), 1002);
    tws_buffer_release(&buffer);
}

TEST(growth_keeps_the_contents)
{
    struct tws_buffer buffer = TWS_BUFFER_EMPTY;
    size_t read = 0;
    size_t written = 0;
    for (size_t step = 1; step < 2000; step++) {
        size_t length = step * 31 % 777;
        append_stream(&buffer, written, length);
        written += length;
        CHECK(holds_stream(&buffer, read, written - read));
        size_t drop = step * 17 % (written - read + 1);
        tws_buffer_consume(&buffer, drop);
        read += drop;
        CHECK(holds_stream(&buffer, read, written - read));
    }
    tws_buffer_release(&buffer);
}

/* Every fill state of a small buffer meets every size of a reserve. */
TEST(reserve_fits_whatever_the_state)
{
    for (size_t filled = 0; filled <= 512; filled += 16) {
        for (size_t consumed = 0; consumed <= filled; consumed += 8) {
            for (size_t extra = 0; extra <= 600; extra += 24) {
                struct tws_buffer buffer = TWS_BUFFER_EMPTY;
                uint8_t *room = NULL;
                append_stream(&buffer, 0, filled);
                tws_buffer_consume(&buffer, consumed);
                CHECK_INT(tws_buffer_reserve(&buffer, extra, &room), TWS_OK);
                if (extra > 0) {
                    memset(room, 0xff, extra);
                }
                CHECK(holds_stream(&buffer, consumed, filled - consumed));
                tws_buffer_commit(&buffer, extra);
                CHECK_INT(tws_buffer_length(&buffer),
                          filled - consumed + extra);
                tws_buffer_release(&buffer);
            }
        }
    }
}

/* However full the queue stays, the bytes that are moved are in proportion
 * to those that pass, and the memory to those that wait. */
TEST(a_standing_queue_costs_linear_time)
{
    static const size_t standing[] = {1, 100, 255, 256, 900, 1023, 5000};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(standing); i++) {
        struct tws_buffer buffer = TWS_BUFFER_EMPTY;
        size_t moved = 0;
        size_t read = 0;
        append_stream(&buffer, 0, standing[i]);
        while (read < 100000) {
            const size_t chunk = standing[i] < 10 ? 1 : 10;
            tws_buffer_consume(&buffer, chunk);
            read += chunk;
            size_t start = buffer.start;
            size_t waiting = tws_buffer_length(&buffer);
            append_stream(&buffer, read + waiting, chunk);
            if (buffer.start < start) {
                moved += waiting;
            }
        }
        CHECK(moved <= 2 * (read + standing[i]));
        CHECK(buffer.capacity <= 512 + 4 * standing[i]);
        CHECK(holds_stream(&buffer, read, standing[i]));
        tws_buffer_release(&buffer);
    }
}

TEST(a_failed_reserve_changes_nothing)
{
    /* Only the last gets past the checks of the size and to malloc(). */
    static const size_t extras[] = {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 2 - 3,
                                    SIZE_MAX / 4 - 3};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(extras); i++) {
        struct tws_buffer buffer = TWS_BUFFER_EMPTY;
        uint8_t *room = NULL;
        CHECK_INT(tws_buffer_reserve(&buffer, extras[i], &room), TWS_NOMEM);
        CHECK(room == NULL && buffer.memory == NULL);
        CHECK_INT(tws_buffer_append(&buffer, "abcd", 4), TWS_OK);
        tws_buffer_consume(&buffer, 1);
        struct tws_buffer before = buffer;
        CHECK_INT(tws_buffer_reserve(&buffer, extras[i], &room), TWS_NOMEM);
        CHECK_INT(tws_buffer_append(&buffer, "x", extras[i]), TWS_NOMEM);
        CHECK(room == NULL);
        CHECK(buffer.memory == before.memory && buffer.start == before.start
              && buffer.end == before.end
              && buffer.capacity == before.capacity);
        CHECK_BYTES(tws_buffer_data(&buffer), tws_buffer_length(&buffer),
                    "bcd");
        tws_buffer_release(&buffer);
    }
}

TEST(a_released_buffer_is_empty_and_usable)
{
    struct tws_buffer buffer = TWS_BUFFER_EMPTY;
    append_stream(&buffer, 0, 5000);
    tws_buffer_release(&buffer);
    CHECK(buffer.memory == NULL);
    CHECK_INT(buffer.capacity, 0);
    CHECK_INT(tws_buffer_length(&buffer), 0);
    tws_buffer_release(&buffer);
    append_stream(&buffer, 3, 300);
    CHECK(holds_stream(&buffer, 3, 300));
    tws_buffer_release(&buffer);
}

RUN(T(an_empty_buffer_holds_no_memory), T(what_goes_in_comes_out_in_order),
    T(what_went_in_last_can_be_withdrawn),
    T(reserved_room_counts_when_it_is_committed), T(growth_keeps_the_contents),
    T(reserve_fits_whatever_the_state), T(a_standing_queue_costs_linear_time),
    T(a_failed_reserve_changes_nothing),
    T(a_released_buffer_is_empty_and_usable))
