#include "protocol/deflate_frame.h"

#include "extension_text.h"

static enum tws_status
parse(const char *text, struct tws_deflate_frame *params,
      struct tws_error *err)
{
    struct tws_extension_param list[EXTENSION_PARAMS_MAX];
    size_t count = extension_params(text, list);
    enum tws_status status = TWS_OK;
    *params = (struct tws_deflate_frame){0};
    for (size_t i = 0; i < count && status == TWS_OK; i++) {
        status = tws_deflate_frame_read(params, &list[i], err);
    }
    return status;
}

TEST(parameters_are_judged)
{
    static const struct {
        const char *text;
        const char *expected; /* NULL: refused */
    } cases[] = {
        {"", ""},
        {"no_context_takeover", "no_context_takeover"},
        {"max_window_bits=8", "max_window_bits=8"},
        {"max_window_bits=\"15\"", "max_window_bits=15"},
        {"no_context_takeover; max_window_bits=10",
         "max_window_bits=10; no_context_takeover"},
        {"max_window_bits=10;no_context_takeover",
         "max_window_bits=10; no_context_takeover"},
        {"max_window_bits", NULL},
        {"max_window_bits=7", NULL},
        {"max_window_bits=16", NULL},
        {"max_window_bits=08", NULL},
        {"no_context_takeover=1", NULL},
        {"no_context_takeover; no_context_takeover", NULL},
        {"max_window_bits=8; max_window_bits=8", NULL},
        {"Max_Window_Bits=8", NULL},
        {"max_window_size=8", NULL},
        {"client_max_window_bits=8", NULL},
        {"no_context_takeover; x", NULL},
        {"x=1; no_context_takeover", NULL},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        struct tws_deflate_frame params;
        struct tws_extension_param list[TWS_DEFLATE_FRAME_PARAMS];
        struct tws_error err = {.http_status = 1};
        enum tws_status status = parse(cases[i].text, &params, &err);
        if (cases[i].expected == NULL) {
            CHECK_INT(status, TWS_REFUSED);
            CHECK_INT(err.http_status, 0);
        }
        else {
            CHECK_INT(status, TWS_OK);
            size_t count = tws_deflate_frame_list(&params, list);
            CHECK_TEXT(extension_text(list, count), cases[i].expected);
        }
    }
}

/* "out 12 takeover, in 15": what an end makes of `asked` and `theirs`. */
static const char *
agree(uint8_t window_bits, bool out_takeover, const char *asked,
      const char *theirs)
{
    static char text[128];
    struct tws_deflate_frame_settings settings = {
        .out = {.window_bits = window_bits, .mem_level = 3, .level = 7},
        .threshold = 99,
        .out_takeover = out_takeover,
    };
    struct tws_deflate_frame params;
    struct tws_error err;
    CHECK_INT(parse(asked, &settings.asked, &err), TWS_OK);
    CHECK_INT(parse(theirs, &params, &err), TWS_OK);
    struct tws_compression_terms terms =
        tws_deflate_frame_agree(&settings, &params);
    CHECK(terms.per_frame);
    CHECK_INT(terms.threshold, 99);
    CHECK_INT(terms.out.mem_level, 3);
    CHECK_INT(terms.out.level, 7);
    (void)snprintf(text, sizeof(text), "out %d%s, in %d%s",
                   terms.out.window_bits,
                   terms.out_takeover ? " takeover" : "", terms.in_window_bits,
                   terms.in_takeover ? " takeover" : "");
    return text;
}

TEST(what_is_asked_binds_the_other_end)
{
    CHECK_TEXT(agree(15, true, "", ""), "out 15 takeover, in 15 takeover");
    CHECK_TEXT(agree(12, true, "", ""), "out 12 takeover, in 15 takeover");
    CHECK_TEXT(agree(12, false, "", ""), "out 12, in 15 takeover");
    CHECK_TEXT(agree(12, true, "", "max_window_bits=10"),
               "out 10 takeover, in 15 takeover");
    CHECK_TEXT(agree(12, true, "", "max_window_bits=15"),
               "out 12 takeover, in 15 takeover");
    CHECK_TEXT(agree(12, true, "", "no_context_takeover"),
               "out 12, in 15 takeover");
    CHECK_TEXT(agree(12, true, "max_window_bits=9", ""),
               "out 12 takeover, in 9 takeover");
    CHECK_TEXT(agree(12, true, "no_context_takeover", ""),
               "out 12 takeover, in 15");
    CHECK_TEXT(agree(15, true, "max_window_bits=8; no_context_takeover",
                     "no_context_takeover; max_window_bits=11"),
               "out 11, in 8");
}

TEST(names_are_those_of_the_draft)
{
    CHECK(tws_span_equal(TWS_DEFLATE_FRAME, TWS_SPAN("deflate-frame")));
    CHECK(tws_span_equal(TWS_WEBKIT_DEFLATE_FRAME,
                         TWS_SPAN("x-webkit-deflate-frame")));
}

RUN(T(parameters_are_judged), T(what_is_asked_binds_the_other_end),
    T(names_are_those_of_the_draft))
