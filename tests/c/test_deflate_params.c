#include "protocol/deflate_params.h"

#include "extension_text.h"

enum { NONE = TWS_WINDOW_BITS_NONE, OPEN = TWS_WINDOW_BITS_OPEN };

/* -1: refused. */
static int
bits_of(const char *text, bool open)
{
    struct tws_extension_param params[EXTENSION_PARAMS_MAX];
    struct tws_error err = {.http_status = 1};
    uint8_t bits = NONE;
    CHECK_INT(extension_params(text, params), 1);
    enum tws_status status =
        tws_deflate_read_bits(&params[0], open, &bits, &err);
    if (status != TWS_OK) {
        CHECK_INT(status, TWS_REFUSED);
        CHECK_INT(err.http_status, 0);
        CHECK(strstr(err.reason, "expected 8 to 15") != NULL);
        CHECK_INT(bits, NONE);
        return -1;
    }
    return bits;
}

TEST(window_bits_are_8_to_15_in_plain_decimal)
{
    static const struct {
        const char *text;
        int bits;
    } cases[] = {
        {"b=8", 8},           {"b=9", 9},       {"b=10", 10},
        {"b=11", 11},         {"b=12", 12},     {"b=13", 13},
        {"b=14", 14},         {"b=15", 15},     {"b=\"15\"", 15},
        {"b=\"8\"", 8},       {"b = 10", 10},   {"b=\"\\1\\5\"", 15},
        {"b=\"1\\0\"", 10},   {"b=\"\\9\"", 9}, {"b=\"\\1\\6\"", -1},
        {"b=0", -1},          {"b=1", -1},      {"b=7", -1},
        {"b=16", -1},         {"b=20", -1},     {"b=08", -1},
        {"b=015", -1},        {"b=+8", -1},     {"b=-8", -1},
        {"b=+12", -1},        {"b=8.0", -1},    {"b=1e1", -1},
        {"b=0x8", -1},        {"b=100", -1},    {"b=1000000", -1},
        {"b=4294967304", -1}, /* 2^32 + 8 */
        {"b=ten", -1},        {"b=x", -1},      {"b=\"\\8\\8\"", -1},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        CHECK_INT(bits_of(cases[i].text, false), cases[i].bits);
        CHECK_INT(bits_of(cases[i].text, true), cases[i].bits);
    }
    CHECK_INT(bits_of("b", true), OPEN);
    CHECK_INT(bits_of("b", false), -1);
}

/* What no walker delivers, but a program may. */
TEST(values_of_any_bytes_are_judged)
{
    static const struct {
        const char *value;
        size_t length;
    } cases[] = {{"", 0},     {" 8", 2},  {"8 ", 2},       {"8\0", 2},
                 {"1\\0", 3}, {"\\8", 2}, {"\xc2\xb2", 2}, {"1:", 2},
                 {"1/", 2},   {"/", 1},   {":", 1}};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        struct tws_extension_param param = {
            .name = TWS_SPAN("b"),
            .value = {.data = cases[i].value, .length = cases[i].length},
            .has_value = true,
        };
        struct tws_error err;
        uint8_t bits = NONE;
        CHECK_INT(tws_deflate_read_bits(&param, true, &bits, &err),
                  TWS_REFUSED);
        CHECK_INT(bits, NONE);
    }
    struct tws_extension_param param = {
        .name = TWS_SPAN("b"), .value = {NULL, 0}, .has_value = true};
    struct tws_error err;
    uint8_t bits = NONE;
    CHECK_INT(tws_deflate_read_bits(&param, true, &bits, &err), TWS_REFUSED);
}

TEST(a_flag_has_no_value)
{
    static const struct {
        const char *text;
        enum tws_status status;
    } cases[] = {
        {"f", TWS_OK},
        {"f=1", TWS_REFUSED},
        {"f=true", TWS_REFUSED},
        {"f=\"f\"", TWS_REFUSED},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        struct tws_extension_param params[EXTENSION_PARAMS_MAX];
        struct tws_error err = {.http_status = 1};
        bool flag = false;
        CHECK_INT(extension_params(cases[i].text, params), 1);
        CHECK_INT(tws_deflate_read_flag(&params[0], &flag, &err),
                  cases[i].status);
        CHECK_INT(flag, cases[i].status == TWS_OK);
        CHECK(cases[i].status == TWS_OK || err.http_status == 0);
    }
}

TEST(a_parameter_comes_once)
{
    struct tws_extension_param params[EXTENSION_PARAMS_MAX];
    struct tws_error err = {.http_status = 1};
    bool flag = true;
    uint8_t bits = 9;
    CHECK_INT(extension_params("p; p=8; p", params), 3);
    CHECK_INT(tws_deflate_read_flag(&params[0], &flag, &err), TWS_REFUSED);
    CHECK(strstr(err.reason, "p comes twice") != NULL);
    CHECK_INT(err.http_status, 0);
    CHECK_INT(tws_deflate_read_bits(&params[1], true, &bits, &err),
              TWS_REFUSED);
    bits = OPEN;
    CHECK_INT(tws_deflate_read_bits(&params[2], true, &bits, &err),
              TWS_REFUSED);
    CHECK(strstr(err.reason, "p comes twice") != NULL);
}

TEST(an_unknown_parameter_is_quoted)
{
    struct tws_extension_param param = {.name = TWS_SPAN("x\n\xff")};
    struct tws_error err = {.http_status = 1};
    CHECK_INT(tws_deflate_unknown_param(&param, &err), TWS_REFUSED);
    CHECK_INT(err.http_status, 0);
    CHECK(strstr(err.reason, "\"x??\"") != NULL);
}

TEST(lists_hold_what_is_there)
{
    struct tws_extension_param list[EXTENSION_PARAMS_MAX];
    const struct tws_span name = TWS_SPAN("b");
    size_t count = 0;
    tws_deflate_list_flag(list, &count, TWS_SPAN("f"), false);
    tws_deflate_list_bits(list, &count, name, NONE);
    CHECK_INT(count, 0);
    tws_deflate_list_flag(list, &count, TWS_SPAN("f"), true);
    tws_deflate_list_bits(list, &count, name, OPEN);
    CHECK_INT(count, 2);
    CHECK_TEXT(extension_text(list, count), "f; b");
    for (uint8_t bits = 8; bits <= 15; bits++) {
        char expected[8];
        count = 0;
        (void)snprintf(expected, sizeof(expected), "b=%d", bits);
        tws_deflate_list_bits(list, &count, name, bits);
        CHECK_INT(count, 1);
        CHECK_TEXT(extension_text(list, count), expected);
        CHECK_INT(bits_of(expected, false), bits);
    }
}

TEST(the_smaller_limit_counts)
{
    static const uint8_t cases[][3] = {
        {8, 15, 8},         {15, 8, 8},         {9, 9, 9},
        {NONE, 9, 9},       {9, NONE, 9},       {OPEN, 9, 9},
        {9, OPEN, 9},       {NONE, OPEN, NONE}, {OPEN, NONE, NONE},
        {OPEN, OPEN, NONE}, {NONE, NONE, NONE},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        CHECK_INT(tws_deflate_smaller_bits(cases[i][0], cases[i][1]),
                  cases[i][2]);
    }
}

RUN(T(window_bits_are_8_to_15_in_plain_decimal),
    T(values_of_any_bytes_are_judged), T(a_flag_has_no_value),
    T(a_parameter_comes_once), T(an_unknown_parameter_is_quoted),
    T(lists_hold_what_is_there), T(the_smaller_limit_counts))
