/* What a SOCKS proxy says, and what it is asked. The first byte chooses: an
 * offer is made of the bytes, and what is written is read back; or the bytes
 * are a proxy's and come whole, then in parts, and their meaning is worked
 * out a third time, the simple way. */
#include "input.h"
#include "protocol/socks5.h"

/* Bits of the first byte. */
enum {
    OFFER = 0x01,
    LOGIN = 0x02,
    ADDRESS = 0x04,
    GREEDY = 0x08, /* hands over more than is wanted */
    STEP = 0xf0,
};

/* --- what is asked --- */

static bool
is_plain(struct tws_span text, size_t least)
{
    for (size_t i = 0; i < text.length; i++) {
        uint8_t byte = (uint8_t)text.data[i];
        if (byte < 0x20 || byte == 0x7f) {
            return false;
        }
    }
    return text.length >= least && text.length <= 255;
}

/* Sends all that is due and keeps it in `out`. */
static struct tws_span
send_message(struct tws_socks5 *socks, size_t step, char out[1024])
{
    size_t length = 0;
    struct tws_span message = tws_socks5_output(socks);
    while (message.length > 0) {
        size_t part = message.length < step ? message.length : step;
        require(length + part <= 1024);
        require(tws_socks5_wanted(socks) == 0);
        memcpy(out + length, message.data, part);
        length += part;
        tws_socks5_sent(socks, part);
        message = tws_socks5_output(socks);
    }
    return (struct tws_span){.data = out, .length = length};
}

static void
reply(struct tws_socks5 *socks, uint8_t first, uint8_t second)
{
    const uint8_t bytes[] = {first, second};
    struct tws_error err;
    size_t consumed;
    require(tws_socks5_take(socks, bytes, 2, &consumed, &err) == TWS_AGAIN);
    require(consumed == 2);
}

static void
check_text(struct tws_span message, size_t *at, struct tws_span expected)
{
    require(*at < message.length);
    require((uint8_t)message.data[*at] == expected.length);
    require(message.length - *at - 1 >= expected.length);
    require(expected.length == 0
            || memcmp(message.data + *at + 1, expected.data, expected.length)
                   == 0);
    *at += 1 + expected.length;
}

static void
fuzz_offer(uint8_t choice, struct input input)
{
    char out[1024];
    struct tws_socks5 socks;
    struct tws_error err;
    size_t step = (size_t)(choice >> 4) + 1;
    struct tws_socks5_offer offer = {
        .port = (uint16_t)(input.length * 7),
        .credentials = (choice & LOGIN) != 0,
    };
    if ((choice & ADDRESS) != 0 && input.length >= 16) {
        offer.address = input.data;
        offer.address_length = input.length % 2 == 0 ? 4 : 16;
    }
    offer.username = input_part(&input, 0xff);
    offer.password = input_part(&input, 0xff);
    offer.name = input_rest(&input);
    enum tws_status status = tws_socks5_init(&socks, &offer, &err);
    if (offer.credentials
        && (!is_plain(offer.username, 1) || !is_plain(offer.password, 0))) {
        require(status == TWS_REFUSED);
    }
    if (status != TWS_OK) {
        require(status == TWS_REFUSED && err.http_status == 0);
        return;
    }
    struct tws_span message = send_message(&socks, step, out);
    require(message.length == (offer.credentials ? 4 : 3));
    reply(&socks, 5, offer.credentials ? 2 : 0);
    if (offer.credentials) {
        size_t at = 1;
        message = send_message(&socks, step, out);
        require(out[0] == 1);
        check_text(message, &at, offer.username);
        check_text(message, &at, offer.password);
        require(at == message.length);
        require(socks.login_length == 0);
        reply(&socks, 1, 0);
    }
    message = send_message(&socks, step, out);
    require(memcmp(out, "\x05\x01\x00", 3) == 0);
    size_t end = 4;
    if (offer.address != NULL) {
        require(out[3] == (offer.address_length == 4 ? 1 : 4));
        require(memcmp(out + 4, offer.address, offer.address_length) == 0);
        end += offer.address_length;
    }
    else {
        require(out[3] == 3 && is_plain(offer.name, 1));
        check_text(message, &end, offer.name);
    }
    require(message.length == end + 2);
    require(tws_load_be16((uint8_t *)out + end) == offer.port);
}

/* --- what is answered --- */

struct outcome {
    enum tws_status status;
    size_t consumed;
};

/* The bytes' meaning. `consumed` means something where it is open. */
static struct outcome
expected_outcome(const uint8_t *data, size_t size, bool login)
{
    struct outcome refused = {.status = TWS_REFUSED};
    struct outcome again = {.status = TWS_AGAIN};
    size_t at = 0;
    bool asked = false;
    if (size > 0 && data[0] != 5) {
        return refused;
    }
    if (size < 2) {
        return again;
    }
    asked = data[1] == 2 && login;
    if (data[1] != 0 && !asked) {
        return refused;
    }
    at = 2;
    if (asked) {
        if (size > at && data[at] != 1) {
            return refused;
        }
        if (size < at + 2) {
            return again;
        }
        if (data[at + 1] != 0) {
            return refused;
        }
        at += 2;
    }
    const uint8_t *head = data + at;
    size_t left = size - at;
    if ((left > 0 && head[0] != 5) || (left > 1 && head[1] != 0)
        || (left > 3 && head[3] != 1 && head[3] != 3 && head[3] != 4)) {
        return refused;
    }
    if (left < 5) {
        return again;
    }
    size_t length = head[3] == 1   ? 10
                    : head[3] == 4 ? 22
                                   : 7 + (size_t)head[4];
    if (left < length) {
        return again;
    }
    return (struct outcome){.status = TWS_OK, .consumed = at + length};
}

static struct outcome
converse(const uint8_t *data, size_t size, uint8_t choice, size_t step)
{
    struct tws_socks5_offer offer = {
        .name = TWS_SPAN("example.org"),
        .port = 443,
        .credentials = (choice & LOGIN) != 0,
        .username = TWS_SPAN("Aladdin"),
        .password = TWS_SPAN("open sesame"),
    };
    char out[1024];
    struct tws_socks5 socks;
    struct tws_error err;
    struct outcome outcome = {.status = TWS_AGAIN};
    require(tws_socks5_init(&socks, &offer, &err) == TWS_OK);
    while (outcome.status == TWS_AGAIN) {
        (void)send_message(&socks, step, out);
        size_t wanted = tws_socks5_wanted(&socks);
        size_t left = size - outcome.consumed;
        size_t part = left < step ? left : step;
        size_t consumed = SIZE_MAX;
        require(wanted > 0 && wanted <= 257 + 4);
        if ((choice & GREEDY) == 0 && part > wanted) {
            part = wanted;
        }
        if (part == 0) {
            break;
        }
        uint8_t *copy = exact_begin(data + outcome.consumed, part);
        outcome.status = tws_socks5_take(&socks, copy, part, &consumed, &err);
        exact_end(copy);
        require(consumed <= part);
        require(outcome.status != TWS_AGAIN || consumed > 0);
        outcome.consumed += consumed;
    }
    if (outcome.status == TWS_REFUSED) {
        require(err.http_status == 0);
        require(strncmp(err.reason, "proxy ", 6) == 0);
        require(strstr(err.reason, "sesame") == NULL);
    }
    return outcome;
}

static void
check_outcome(struct outcome got, struct outcome expected)
{
    require(got.status == expected.status);
    require(got.status != TWS_OK || got.consumed == expected.consumed);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    uint8_t choice = data[0];
    data++;
    size--;
    if ((choice & OFFER) != 0) {
        fuzz_offer(choice, (struct input){.data = data, .length = size});
        return 0;
    }
    struct outcome expected =
        expected_outcome(data, size, (choice & LOGIN) != 0);
    check_outcome(converse(data, size, choice, 1024), expected);
    check_outcome(converse(data, size, choice, (size_t)(choice >> 4) + 1),
                  expected);
    return 0;
}
