#include "protocol/deflate_params.h"

#include "protocol/deflate.h"

/* Both digits of the largest value, each a quoted-pair. */
enum { VALUE_MAX = 4 };

static enum tws_status
refuse_repeated(const struct tws_extension_param *param, struct tws_error *err)
{
    return tws_error_refused(
        err, 0, "extension parameter %.*s comes twice, expected it once",
        TWS_HTTP_QUOTED(param->name));
}

enum tws_status
tws_deflate_read_flag(const struct tws_extension_param *param, bool *flag,
                      struct tws_error *err)
{
    if (*flag) {
        return refuse_repeated(param, err);
    }
    if (param->has_value) {
        return tws_error_refused(
            err, 0, "extension parameter %.*s is \"%.*s\", expected no value",
            TWS_HTTP_QUOTED(param->name), TWS_HTTP_QUOTED(param->value));
    }
    *flag = true;
    return TWS_OK;
}

/* 0 where it is something else. */
static uint8_t
parse_bits(const struct tws_extension_param *param)
{
    char text[VALUE_MAX];
    if (param->value.length > sizeof(text)) {
        return 0;
    }
    size_t length = param->value.length;
    if (param->quoted_pairs) {
        length = tws_extension_unquote(param, text);
    }
    else if (length > 0) {
        memcpy(text, param->value.data, length);
    }
    if (length == 1 && (text[0] == '8' || text[0] == '9')) {
        return (uint8_t)(text[0] - '0');
    }
    if (length == 2 && text[0] == '1' && text[1] >= '0' && text[1] <= '5') {
        return (uint8_t)(10 + text[1] - '0');
    }
    return 0;
}

enum tws_status
tws_deflate_read_bits(const struct tws_extension_param *param, bool open,
                      uint8_t *bits, struct tws_error *err)
{
    if (*bits != TWS_WINDOW_BITS_NONE) {
        return refuse_repeated(param, err);
    }
    if (!param->has_value) {
        if (!open) {
            return tws_error_refused(
                err, 0,
                "extension parameter %.*s has no value, expected %d to %d",
                TWS_HTTP_QUOTED(param->name), TWS_WINDOW_BITS_MIN,
                TWS_WINDOW_BITS_MAX);
        }
        *bits = TWS_WINDOW_BITS_OPEN;
        return TWS_OK;
    }
    uint8_t value = parse_bits(param);
    if (value == 0) {
        return tws_error_refused(
            err, 0, "extension parameter %.*s is \"%.*s\", expected %d to %d",
            TWS_HTTP_QUOTED(param->name), TWS_HTTP_QUOTED(param->value),
            TWS_WINDOW_BITS_MIN, TWS_WINDOW_BITS_MAX);
    }
    *bits = value;
    return TWS_OK;
}

enum tws_status
tws_deflate_unknown_param(const struct tws_extension_param *param,
                          struct tws_error *err)
{
    return tws_error_refused(
        err, 0, "extension parameter \"%.*s\" is none of this extension's",
        TWS_HTTP_QUOTED(param->name));
}

void
tws_deflate_list_flag(struct tws_extension_param *list, size_t *count,
                      struct tws_span name, bool flag)
{
    if (flag) {
        list[*count] =
            (struct tws_extension_param){.name = name, .value = TWS_SPAN("")};
        ++*count;
    }
}

void
tws_deflate_list_bits(struct tws_extension_param *list, size_t *count,
                      struct tws_span name, uint8_t bits)
{
    static const char DIGITS[] = "89101112131415";
    if (bits == TWS_WINDOW_BITS_OPEN) {
        tws_deflate_list_flag(list, count, name, true);
    }
    else if (bits != TWS_WINDOW_BITS_NONE) {
        struct tws_span value = {.data = DIGITS + bits - 8, .length = 1};
        if (bits >= 10) {
            value.data = &DIGITS[2 + 2 * (bits - 10)];
            value.length = 2;
        }
        list[*count] = (struct tws_extension_param){
            .name = name, .value = value, .has_value = true};
        ++*count;
    }
}

uint8_t
tws_deflate_smaller_bits(uint8_t a, uint8_t b)
{
    if (a == TWS_WINDOW_BITS_NONE || a == TWS_WINDOW_BITS_OPEN) {
        return b == TWS_WINDOW_BITS_OPEN ? TWS_WINDOW_BITS_NONE : b;
    }
    return b != TWS_WINDOW_BITS_NONE && b < a ? b : a;
}
