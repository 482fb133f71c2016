#include "protocol/permessage_deflate.h"

#include "extension_text.h"

enum { NONE = TWS_WINDOW_BITS_NONE, OPEN = TWS_WINDOW_BITS_OPEN };

static enum tws_status
parse(const char *text, enum tws_role from,
      struct tws_permessage_deflate *params, struct tws_error *err)
{
    struct tws_extension_param list[EXTENSION_PARAMS_MAX];
    size_t count = extension_params(text, list);
    enum tws_status status = TWS_OK;
    *params = (struct tws_permessage_deflate){0};
    for (size_t i = 0; i < count && status == TWS_OK; i++) {
        status = tws_permessage_deflate_read(params, &list[i], from, err);
    }
    return status;
}

static const char *
text_of(const struct tws_permessage_deflate *params)
{
    struct tws_extension_param list[TWS_PERMESSAGE_DEFLATE_PARAMS];
    size_t count = tws_permessage_deflate_list(params, list);
    return extension_text(list, count);
}

/* What came `from` an end, written again; "-": refused. */
static const char *
judged(const char *text, enum tws_role from)
{
    struct tws_permessage_deflate params;
    struct tws_error err = {.http_status = 1};
    enum tws_status status = parse(text, from, &params, &err);
    if (status != TWS_OK) {
        CHECK_INT(status, TWS_REFUSED);
        CHECK_INT(err.http_status, 0);
        CHECK(strstr(err.reason, "parameter") != NULL);
        return "-";
    }
    return text_of(&params);
}

TEST(parameters_are_judged)
{
    static const struct {
        const char *text;
        const char *offer;
        const char *answer;
    } cases[] = {
        {"", "", ""},
        {"server_no_context_takeover", "server_no_context_takeover",
         "server_no_context_takeover"},
        {"client_no_context_takeover", "client_no_context_takeover",
         "client_no_context_takeover"},
        {"server_max_window_bits=8", "server_max_window_bits=8",
         "server_max_window_bits=8"},
        {"client_max_window_bits=15", "client_max_window_bits=15",
         "client_max_window_bits=15"},
        {"client_max_window_bits", "client_max_window_bits", "-"},
        {"server_max_window_bits", "-", "-"},
        {"client_max_window_bits=\"1\\0\"; server_max_window_bits=\"9\";"
         "client_no_context_takeover;server_no_context_takeover",
         "server_no_context_takeover; client_no_context_takeover; "
         "server_max_window_bits=9; client_max_window_bits=10",
         "server_no_context_takeover; client_no_context_takeover; "
         "server_max_window_bits=9; client_max_window_bits=10"},
        {"server_no_context_takeover=1", "-", "-"},
        {"client_no_context_takeover=true", "-", "-"},
        {"server_max_window_bits=7", "-", "-"},
        {"client_max_window_bits=16", "-", "-"},
        {"client_max_window_bits=08", "-", "-"},
        {"server_max_window_bits=+12", "-", "-"},
        {"server_no_context_takeover; server_no_context_takeover", "-", "-"},
        {"client_no_context_takeover; client_no_context_takeover", "-", "-"},
        {"server_max_window_bits=8; server_max_window_bits=8", "-", "-"},
        {"client_max_window_bits=8; client_max_window_bits=9", "-", "-"},
        {"client_max_window_bits; client_max_window_bits", "-", "-"},
        {"client_max_window_bits; client_max_window_bits=9", "-", "-"},
        {"max_window_bits=8", "-", "-"},
        {"no_context_takeover", "-", "-"},
        {"Server_No_Context_Takeover", "-", "-"},
        {"server_no_context_takeove", "-", "-"},
        {"client_max_window_bits; x", "-", "-"},
        {"x", "-", "-"},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        CHECK_TEXT(judged(cases[i].text, TWS_CLIENT), cases[i].offer);
        CHECK_TEXT(judged(cases[i].text, TWS_SERVER), cases[i].answer);
    }
}

/* What one end wants. */
struct want {
    uint8_t window_bits;
    bool server_no;
    bool client_no;
    uint8_t server_bits;
    uint8_t client_bits;
    bool required;
};

static struct tws_permessage_deflate_settings
settings_of(const struct want *want)
{
    return (struct tws_permessage_deflate_settings){
        .out = {.window_bits = want->window_bits, .mem_level = 4, .level = 2},
        .threshold = 77,
        .server_no_context_takeover = want->server_no,
        .client_no_context_takeover = want->client_no,
        .server_max_window_bits = want->server_bits,
        .client_max_window_bits = want->client_bits,
        .client_max_window_bits_required = want->required,
    };
}

/* "out 12 takeover, in 15". */
static const char *
terms_text(const struct tws_compression_terms *terms)
{
    static char text[128];
    CHECK(!terms->per_frame);
    CHECK_INT(terms->threshold, 77);
    CHECK_INT(terms->out.mem_level, 4);
    CHECK_INT(terms->out.level, 2);
    (void)snprintf(
        text, sizeof(text), "out %d%s, in %d%s", terms->out.window_bits,
        terms->out_takeover ? " takeover" : "", terms->in_window_bits,
        terms->in_takeover ? " takeover" : "");
    return text;
}

TEST(a_client_offers_what_it_wants)
{
    static const struct {
        struct want want;
        const char *offer;
    } cases[] = {
        {{15, false, false, NONE, OPEN, false}, "client_max_window_bits"},
        {{12, false, false, NONE, OPEN, true}, "client_max_window_bits"},
        {{15, false, false, NONE, NONE, false}, ""},
        {{15, true, false, NONE, NONE, false}, "server_no_context_takeover"},
        {{15, false, true, NONE, NONE, false}, "client_no_context_takeover"},
        {{15, false, false, 10, OPEN, false},
         "server_max_window_bits=10; client_max_window_bits"},
        {{15, true, true, 8, 9, false},
         "server_no_context_takeover; client_no_context_takeover; "
         "server_max_window_bits=8; client_max_window_bits=9"},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        struct tws_permessage_deflate_settings settings =
            settings_of(&cases[i].want);
        struct tws_permessage_deflate offer =
            tws_permessage_deflate_offer(&settings);
        CHECK_TEXT(text_of(&offer), cases[i].offer);
    }
}

TEST(a_server_answers_an_offer)
{
    static const struct {
        struct want want;
        const char *offer;
        const char *answer; /* NULL: declined */
        const char *terms;
    } cases[] = {
        /* Nothing wanted. */
        {{15, false, false, NONE, OPEN, false},
         "",
         "",
         "out 15 takeover, in 15 takeover"},
        {{15, false, false, NONE, NONE, true},
         "client_max_window_bits",
         "",
         "out 15 takeover, in 15 takeover"},
        /* A smaller window of one's own needs no word. */
        {{12, false, false, NONE, OPEN, true},
         "client_max_window_bits",
         "",
         "out 12 takeover, in 15 takeover"},
        /* What the client asks of the server. */
        {{15, false, false, NONE, OPEN, false},
         "server_no_context_takeover",
         "server_no_context_takeover",
         "out 15, in 15 takeover"},
        {{15, false, false, NONE, OPEN, false},
         "server_max_window_bits=10",
         "server_max_window_bits=10",
         "out 10 takeover, in 15 takeover"},
        {{12, false, false, NONE, OPEN, false},
         "server_max_window_bits=13",
         "server_max_window_bits=12",
         "out 12 takeover, in 15 takeover"},
        {{15, false, false, 9, OPEN, false},
         "server_max_window_bits=10",
         "server_max_window_bits=9",
         "out 9 takeover, in 15 takeover"},
        {{15, false, false, 12, OPEN, false},
         "server_max_window_bits=8",
         "server_max_window_bits=8",
         "out 8 takeover, in 15 takeover"},
        {{15, false, false, NONE, OPEN, false},
         "server_max_window_bits=15",
         "server_max_window_bits=15",
         "out 15 takeover, in 15 takeover"},
        /* What the server does unasked. */
        {{15, true, false, NONE, OPEN, false},
         "",
         "server_no_context_takeover",
         "out 15, in 15 takeover"},
        {{15, false, false, 11, OPEN, false},
         "",
         "server_max_window_bits=11",
         "out 11 takeover, in 15 takeover"},
        {{10, false, false, 11, OPEN, false},
         "",
         "server_max_window_bits=10",
         "out 10 takeover, in 15 takeover"},
        /* What the client says of itself, the answer binds it to. */
        {{15, false, false, NONE, OPEN, false},
         "client_no_context_takeover",
         "client_no_context_takeover",
         "out 15 takeover, in 15"},
        {{15, false, false, NONE, OPEN, false},
         "client_max_window_bits=10",
         "client_max_window_bits=10",
         "out 15 takeover, in 10 takeover"},
        {{15, false, false, NONE, NONE, false},
         "client_max_window_bits=10",
         "client_max_window_bits=10",
         "out 15 takeover, in 10 takeover"},
        /* What the server asks of the client. */
        {{15, false, true, NONE, OPEN, false},
         "",
         "client_no_context_takeover",
         "out 15 takeover, in 15"},
        {{15, false, false, NONE, 9, false},
         "client_max_window_bits",
         "client_max_window_bits=9",
         "out 15 takeover, in 9 takeover"},
        {{15, false, false, NONE, 9, true},
         "client_max_window_bits=10",
         "client_max_window_bits=9",
         "out 15 takeover, in 9 takeover"},
        {{15, false, false, NONE, 11, true},
         "client_max_window_bits=10",
         "client_max_window_bits=10",
         "out 15 takeover, in 10 takeover"},
        /* It can't where that was not offered. */
        {{15, false, false, NONE, 9, false},
         "",
         "",
         "out 15 takeover, in 15 takeover"},
        {{15, false, false, NONE, 9, true}, "", NULL, NULL},
        {{15, false, false, NONE, 14, true},
         "server_no_context_takeover",
         NULL,
         NULL},
        {{15, false, false, NONE, 15, true},
         "",
         "",
         "out 15 takeover, in 15 takeover"},
        /* All of it. */
        {{14, true, true, 13, 12, true},
         "server_no_context_takeover; client_no_context_takeover; "
         "server_max_window_bits=11; client_max_window_bits=13",
         "server_no_context_takeover; client_no_context_takeover; "
         "server_max_window_bits=11; client_max_window_bits=12",
         "out 11, in 12"},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        struct tws_permessage_deflate_settings settings =
            settings_of(&cases[i].want);
        struct tws_permessage_deflate offer;
        struct tws_permessage_deflate answer;
        struct tws_compression_terms terms;
        struct tws_error err = {.http_status = 1};
        CHECK_INT(parse(cases[i].offer, TWS_CLIENT, &offer, &err), TWS_OK);
        enum tws_status status = tws_permessage_deflate_negotiate(
            &settings, &offer, &answer, &terms, &err);
        if (cases[i].answer == NULL) {
            CHECK_INT(status, TWS_REFUSED);
            CHECK_INT(err.http_status, 0);
            CHECK(strstr(err.reason, "without client_max_window_bits")
                  != NULL);
        }
        else {
            CHECK_INT(status, TWS_OK);
            CHECK_TEXT(text_of(&answer), cases[i].answer);
            CHECK_TEXT(terms_text(&terms), cases[i].terms);
        }
    }
}

TEST(a_client_judges_the_answer)
{
    static const struct {
        struct want want;
        const char *answer;
        const char *terms; /* "!" and a part of the reason: refused */
    } cases[] = {
        {{15, false, false, NONE, OPEN, false},
         "",
         "out 15 takeover, in 15 takeover"},
        {{12, false, false, NONE, OPEN, false},
         "",
         "out 12 takeover, in 15 takeover"},
        /* A server may do unasked what binds it. */
        {{15, false, false, NONE, OPEN, false},
         "server_no_context_takeover",
         "out 15 takeover, in 15"},
        {{15, false, false, NONE, OPEN, false},
         "server_max_window_bits=8",
         "out 15 takeover, in 8 takeover"},
        /* What it asks of the client. */
        {{15, false, false, NONE, OPEN, false},
         "client_no_context_takeover",
         "out 15, in 15 takeover"},
        {{15, false, false, NONE, OPEN, false},
         "client_max_window_bits=9",
         "out 9 takeover, in 15 takeover"},
        {{12, false, false, NONE, OPEN, false},
         "client_max_window_bits=13",
         "out 12 takeover, in 15 takeover"},
        {{15, false, false, NONE, NONE, false},
         "client_max_window_bits=15",
         "!client_max_window_bits, which was not offered"},
        /* What the client has said of itself holds in any case. */
        {{15, false, true, NONE, 10, false}, "", "out 10, in 15 takeover"},
        {{15, false, false, NONE, 10, false},
         "client_max_window_bits=12",
         "out 10 takeover, in 15 takeover"},
        {{15, false, false, NONE, 10, false},
         "client_max_window_bits=8",
         "out 8 takeover, in 15 takeover"},
        /* What it has asked for. */
        {{15, true, false, NONE, OPEN, false},
         "server_no_context_takeover",
         "out 15 takeover, in 15"},
        {{15, true, false, NONE, OPEN, false},
         "client_no_context_takeover",
         "!without server_no_context_takeover"},
        {{15, false, false, 10, OPEN, false},
         "server_max_window_bits=10",
         "out 15 takeover, in 10 takeover"},
        {{15, false, false, 10, OPEN, false},
         "server_max_window_bits=9",
         "out 15 takeover, in 9 takeover"},
        {{15, false, false, 10, OPEN, false},
         "server_max_window_bits=11",
         "!of 11, expected 10 at most"},
        {{15, false, false, 10, OPEN, false},
         "",
         "!of 15, expected 10 at most"},
        {{15, false, false, 15, OPEN, false},
         "",
         "out 15 takeover, in 15 takeover"},
        {{15, true, true, 12, 11, false},
         "server_no_context_takeover; client_no_context_takeover; "
         "server_max_window_bits=8; client_max_window_bits=9",
         "out 9, in 8"},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        struct tws_permessage_deflate_settings settings =
            settings_of(&cases[i].want);
        struct tws_permessage_deflate answer;
        struct tws_compression_terms terms;
        struct tws_error err = {.http_status = 1};
        CHECK_INT(parse(cases[i].answer, TWS_SERVER, &answer, &err), TWS_OK);
        enum tws_status status =
            tws_permessage_deflate_accept(&settings, &answer, &terms, &err);
        if (cases[i].terms[0] == '!') {
            CHECK_INT(status, TWS_REFUSED);
            CHECK_INT(err.http_status, 0);
            CHECK(strstr(err.reason, cases[i].terms + 1) != NULL);
        }
        else {
            CHECK_INT(status, TWS_OK);
            CHECK_TEXT(terms_text(&terms), cases[i].terms);
        }
    }
}

/* Whatever two of us want: an answer is taken, nobody sends what the other
 * has no window for, and the client does not fall behind the server's
 * resets. */
TEST(two_of_us_agree)
{
    static const uint8_t bits[] = {NONE, OPEN, 8, 12, 15};
    size_t agreed = 0;
    for (size_t i = 0; i < 5 * 5 * 5 * 5 * 16; i++) {
        struct want client = {
            .window_bits = i & 1 ? 15 : 9,
            .server_no = (i & 2) != 0,
            .client_no = (i & 4) != 0,
            .server_bits = bits[i / 16 % 5],
            .client_bits = bits[i / (16 * 5) % 5],
        };
        struct want server = {
            .window_bits = i & 1 ? 11 : 15,
            .server_no = (i & 4) != 0,
            .client_no = (i & 2) != 0,
            .server_bits = bits[i / (16 * 5 * 5) % 5],
            .client_bits = bits[i / (16 * 5 * 5 * 5) % 5],
            .required = (i & 8) != 0,
        };
        if (client.server_bits == OPEN || server.server_bits == OPEN) {
            continue; /* it always has a value */
        }
        struct tws_permessage_deflate_settings ours = settings_of(&client);
        struct tws_permessage_deflate_settings theirs = settings_of(&server);
        struct tws_permessage_deflate offer =
            tws_permessage_deflate_offer(&ours);
        struct tws_permessage_deflate answer;
        struct tws_compression_terms at_client;
        struct tws_compression_terms at_server;
        struct tws_error err;
        char text[512];
        (void)snprintf(text, sizeof(text), "%s", text_of(&offer));
        CHECK_TEXT(judged(text, TWS_CLIENT), text);
        if (tws_permessage_deflate_negotiate(&theirs, &offer, &answer,
                                             &at_server, &err)
            != TWS_OK) {
            CHECK(server.required && client.client_bits == NONE);
            continue;
        }
        (void)snprintf(text, sizeof(text), "%s", text_of(&answer));
        CHECK_TEXT(judged(text, TWS_SERVER), text);
        CHECK_INT(
            tws_permessage_deflate_accept(&ours, &answer, &at_client, &err),
            TWS_OK);
        CHECK(at_client.out.window_bits <= at_server.in_window_bits);
        CHECK(at_server.out.window_bits <= at_client.in_window_bits);
        CHECK(at_client.out.window_bits <= client.window_bits);
        CHECK(at_server.out.window_bits <= server.window_bits);
        CHECK(at_server.in_takeover || !at_client.out_takeover);
        CHECK(at_client.in_takeover || !at_server.out_takeover);
        agreed++;
    }
    CHECK(agreed > 3000);
}

RUN(T(parameters_are_judged), T(a_client_offers_what_it_wants),
    T(a_server_answers_an_offer), T(a_client_judges_the_answer),
    T(two_of_us_agree))
