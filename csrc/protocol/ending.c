#include "protocol/ending.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

void
tws_ending_clear(struct tws_ending *ending)
{
    memset(ending, 0, sizeof(*ending));
    ending->ping_age = UINT64_MAX;
}

/* Copies what fits of a reason, cut as in a Close frame; returns its
 * length. */
static size_t
copy_reason(char out[TWS_CLOSE_REASON_MAX + 1], struct tws_span reason)
{
    uint8_t payload[2 + TWS_CLOSE_REASON_MAX];
    size_t length;
    tws_close_write(TWS_CLOSE_NORMAL, reason, payload, &length);
    length -= 2;
    memcpy(out, payload + 2, length);
    out[length] = '\0';
    return length;
}

void
tws_ending_set_reason(struct tws_ending *ending, uint16_t code,
                      struct tws_span reason)
{
    ending->code = code;
    ending->reason_length = (uint8_t)copy_reason(ending->reason, reason);
}

/* As copy_reason(), for a reason whose length is not kept. */
static void
copy_string(char out[TWS_CLOSE_REASON_MAX + 1], struct tws_span reason)
{
    size_t length = copy_reason(out, reason);
    for (size_t i = 0; i < length; i++) {
        if (out[i] == '\0') {
            out[i] = '?';
        }
    }
}

void
tws_ending_set_sent(struct tws_ending *ending, uint16_t code,
                    struct tws_span reason)
{
    ending->sent_code = code;
    copy_string(ending->sent_reason, reason);
}

void
tws_ending_set_received(struct tws_ending *ending, uint16_t code,
                        struct tws_span reason)
{
    ending->received_code = code;
    copy_string(ending->received_reason, reason);
}

const char *
tws_ended_by_name(enum tws_ended_by by)
{
    switch (by) {
    case TWS_ENDED_BY_PEER:
        return "peer";
    case TWS_ENDED_BY_US:
        return "us";
    case TWS_ENDED_BY_NETWORK:
        return "network";
    case TWS_ENDED_BY_LIMIT:
        return "limit";
    case TWS_ENDED_BY_KEEPALIVE:
        return "keepalive";
    }
    return "unknown";
}

/* Describing ------------------------------------------------------------- */

static const char *
words_for(enum tws_ended_by by)
{
    switch (by) {
    case TWS_ENDED_BY_PEER:
        return "the peer";
    case TWS_ENDED_BY_US:
        return "us";
    case TWS_ENDED_BY_NETWORK:
        return "the network";
    case TWS_ENDED_BY_LIMIT:
        return "a limit";
    case TWS_ENDED_BY_KEEPALIVE:
        return "the keepalive";
    }
    return "something unknown";
}

struct line {
    char *text;
    size_t length;
};

static void TWS_PRINTF(2, 3) add(struct line *line, const char *format, ...)
{
    va_list args;
    size_t room = TWS_ENDING_LINE_MAX - line->length;
    va_start(args, format);
    int length = vsnprintf(line->text + line->length, room, format, args);
    va_end(args);
    assert(length >= 0 && (size_t)length < room); /* sized for the longest */
    if (length > 0) {
        line->length += (size_t)length < room ? (size_t)length : room - 1;
    }
}

/* Bytes at `p` of a character that would break the line or change how the
 * rest of it reads: U+0000-001F, 007F-009F, 2028-202E (line and paragraph
 * separator, directions), 2066-2069 (directions). 0: it is none. */
static size_t
control_length(const uint8_t *p, size_t length)
{
    if (p[0] < 0x20 || p[0] == 0x7f) {
        return 1;
    }
    if (length >= 2 && p[0] == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f) {
        return 2;
    }
    if (length >= 3 && p[0] == 0xe2
        && ((p[1] == 0x80 && p[2] >= 0xa8 && p[2] <= 0xae)
            || (p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9))) {
        return 3;
    }
    return 0;
}

/* A code and, where there is one, its reason. */
static void
add_code(struct line *line, uint16_t code, const char *reason, size_t length)
{
    char clean[TWS_CLOSE_REASON_MAX + 1];
    size_t at = 0;
    for (size_t i = 0; i < length;) {
        size_t skipped =
            control_length((const uint8_t *)reason + i, length - i);
        if (skipped > 0) {
            clean[at] = '?';
            i += skipped;
        }
        else {
            clean[at] = reason[i];
            i++;
        }
        at++;
    }
    clean[at] = '\0';
    add(line, at > 0 ? "%u (%s)" : "%u", (unsigned)code, clean);
}

static void
add_close_frame(struct line *line, uint16_t code, const char *reason,
                const char *none)
{
    if (code == 0) {
        add(line, "%s", none);
    }
    else if (code == TWS_CLOSE_NO_STATUS) {
        add(line, "Close without a code");
    }
    else {
        add(line, "Close ");
        add_code(line, code, reason, strlen(reason));
    }
}

void
tws_ending_describe(const struct tws_ending *ending,
                    char line[TWS_ENDING_LINE_MAX])
{
    struct line out = {.text = line};
    add(&out, "ended by %s: ", words_for((enum tws_ended_by)ending->by));
    add_code(&out, ending->code, ending->reason, ending->reason_length);
    add(&out, "; sent ");
    add_close_frame(&out, ending->sent_code, ending->sent_reason,
                    "no Close frame");
    add(&out, ", received ");
    add_close_frame(&out, ending->received_code, ending->received_reason,
                    ending->sent_code == 0 ? "none" : "no Close frame");
    if (ending->sys_errno != 0) {
        add(&out, "; errno %d", ending->sys_errno);
    }
    if (ending->unsent > 0) {
        add(&out, "; %" PRIu64 " byte%s unsent", ending->unsent,
            ending->unsent == 1 ? "" : "s");
    }
    if (ending->ping_age != UINT64_MAX) {
        uint64_t tenths = ending->ping_age / 100000000;
        add(&out, "; ping not answered for %" PRIu64 ".%d s", tenths / 10,
            (int)(tenths % 10));
    }
}
