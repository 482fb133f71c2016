/* Values of Sec-WebSocket-Extensions, behind bytes that choose what an end
 * wants. Each extension is judged as an offer and as an answer of every kind
 * of deflate, whatever its name: what is accepted must have terms that both
 * ends can keep, and mean the same when it is read again. */
#include "input.h"
#include "protocol/deflate_frame.h"
#include "protocol/permessage_deflate.h"

enum { HEAD = 3 };

static uint8_t
bits_from(uint8_t choice)
{
    static const uint8_t choices[] = {
        TWS_WINDOW_BITS_NONE, TWS_WINDOW_BITS_OPEN, 8, 9, 10, 12, 14, 15};
    return choices[choice % sizeof(choices)];
}

static void
check_refused(enum tws_status status, const struct tws_error *err)
{
    require(status == TWS_REFUSED && err->status == TWS_REFUSED);
    require(err->http_status == 0 && strlen(err->reason) > 10);
}

static void
check_terms(const struct tws_compression_terms *terms,
            const struct tws_deflate_settings *out)
{
    require(terms->out.window_bits >= 8);
    require(terms->out.window_bits <= out->window_bits);
    require(terms->in_window_bits >= 8 && terms->in_window_bits <= 15);
}

/* A list as it is sent, walked again. */
static void
write_list(const struct tws_extension_param *list, size_t count,
           struct tws_buffer *out)
{
    require(tws_buffer_append(out, "x", 1) == TWS_OK);
    for (size_t i = 0; i < count; i++) {
        require(tws_http_is_token(list[i].name));
        require(tws_buffer_append(out, "; ", 2) == TWS_OK);
        require(tws_buffer_append(out, list[i].name.data, list[i].name.length)
                == TWS_OK);
        if (list[i].has_value) {
            require(tws_http_is_token(list[i].value));
            require(tws_buffer_append(out, "=", 1) == TWS_OK);
            require(tws_buffer_append(out, list[i].value.data,
                                      list[i].value.length)
                    == TWS_OK);
        }
    }
}

static void
begin_walk(const struct tws_buffer *text, struct tws_extension_walker *walker)
{
    struct tws_span name;
    struct tws_error err;
    *walker = (struct tws_extension_walker){
        .rest = {.data = (const char *)tws_buffer_data(text),
                 .length = tws_buffer_length(text)}};
    require(tws_extension_next(walker, &name, &err) == TWS_OK);
}

/* permessage-deflate ----------------------------------------------------- */

static bool
same(const struct tws_permessage_deflate *a,
     const struct tws_permessage_deflate *b)
{
    return a->server_no_context_takeover == b->server_no_context_takeover
           && a->client_no_context_takeover == b->client_no_context_takeover
           && a->server_max_window_bits == b->server_max_window_bits
           && a->client_max_window_bits == b->client_max_window_bits;
}

static void
check_again(const struct tws_permessage_deflate *params, enum tws_role from)
{
    struct tws_extension_param list[TWS_PERMESSAGE_DEFLATE_PARAMS];
    size_t count = tws_permessage_deflate_list(params, list);
    struct tws_permessage_deflate again = {0};
    struct tws_buffer text = TWS_BUFFER_EMPTY;
    struct tws_extension_walker walker;
    struct tws_extension_param param;
    struct tws_error err;
    require(count <= TWS_PERMESSAGE_DEFLATE_PARAMS);
    write_list(list, count, &text);
    begin_walk(&text, &walker);
    while (tws_extension_param_next(&walker, &param, &err) == TWS_OK) {
        require(tws_permessage_deflate_read(&again, &param, from, &err)
                == TWS_OK);
    }
    require(same(params, &again));
    tws_buffer_release(&text);
}

/* A client that would have made that offer must agree with the answer. */
static void
check_agreement(const struct tws_permessage_deflate_settings *settings,
                const struct tws_permessage_deflate *offer)
{
    struct tws_permessage_deflate answer;
    struct tws_compression_terms at_server;
    struct tws_compression_terms at_client;
    struct tws_error err;
    enum tws_status status = tws_permessage_deflate_negotiate(
        settings, offer, &answer, &at_server, &err);
    if (status != TWS_OK) {
        check_refused(status, &err);
        require(settings->client_max_window_bits_required);
        return;
    }
    struct tws_permessage_deflate_settings client = {
        .out = settings->out,
        .server_no_context_takeover = offer->server_no_context_takeover,
        .client_no_context_takeover = offer->client_no_context_takeover,
        .server_max_window_bits = offer->server_max_window_bits,
        .client_max_window_bits = offer->client_max_window_bits,
    };
    struct tws_permessage_deflate made = tws_permessage_deflate_offer(&client);
    require(same(&made, offer));
    check_again(&answer, TWS_SERVER);
    require(tws_permessage_deflate_accept(&client, &answer, &at_client, &err)
            == TWS_OK);
    check_terms(&at_server, &settings->out);
    check_terms(&at_client, &settings->out);
    require(at_server.out.window_bits <= at_client.in_window_bits);
    require(at_client.out.window_bits <= at_server.in_window_bits);
    require(at_client.in_takeover || !at_server.out_takeover);
    require(at_server.in_takeover || !at_client.out_takeover);
}

static void
check_permessage(const struct tws_permessage_deflate_settings *settings,
                 struct tws_extension_walker walker, enum tws_role from)
{
    struct tws_permessage_deflate params = {0};
    struct tws_extension_param param;
    struct tws_error err;
    while (tws_extension_param_next(&walker, &param, &err) == TWS_OK) {
        struct tws_permessage_deflate before = params;
        enum tws_status status =
            tws_permessage_deflate_read(&params, &param, from, &err);
        if (status != TWS_OK) {
            check_refused(status, &err);
            require(same(&before, &params));
            return;
        }
    }
    check_again(&params, from);
    if (from == TWS_CLIENT) {
        check_agreement(settings, &params);
        return;
    }
    struct tws_compression_terms terms;
    enum tws_status status =
        tws_permessage_deflate_accept(settings, &params, &terms, &err);
    if (status == TWS_OK) {
        check_terms(&terms, &settings->out);
    }
    else {
        check_refused(status, &err);
    }
}

/* deflate-frame ---------------------------------------------------------- */

static void
check_frame(const struct tws_deflate_settings *out,
            struct tws_extension_walker walker)
{
    struct tws_deflate_frame_settings settings = {.out = *out,
                                                  .out_takeover = true};
    struct tws_deflate_frame again = {0};
    struct tws_extension_param list[TWS_DEFLATE_FRAME_PARAMS];
    struct tws_buffer text = TWS_BUFFER_EMPTY;
    struct tws_extension_param param;
    struct tws_error err;
    while (tws_extension_param_next(&walker, &param, &err) == TWS_OK) {
        enum tws_status status =
            tws_deflate_frame_read(&settings.asked, &param, &err);
        if (status != TWS_OK) {
            check_refused(status, &err);
            return;
        }
    }
    write_list(list, tws_deflate_frame_list(&settings.asked, list), &text);
    begin_walk(&text, &walker);
    while (tws_extension_param_next(&walker, &param, &err) == TWS_OK) {
        require(tws_deflate_frame_read(&again, &param, &err) == TWS_OK);
    }
    require(again.max_window_bits == settings.asked.max_window_bits);
    require(again.no_context_takeover == settings.asked.no_context_takeover);
    /* Both ends ask the same of each other. */
    struct tws_compression_terms terms =
        tws_deflate_frame_agree(&settings, &again);
    check_terms(&terms, out);
    require(terms.out.window_bits <= terms.in_window_bits);
    require(terms.in_takeover == terms.out_takeover);
    tws_buffer_release(&text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD) {
        return 0;
    }
    struct tws_permessage_deflate_settings settings = {
        .out = {.window_bits = (uint8_t)(8 + data[2] % 8),
                .mem_level = 8,
                .level = 6},
        .server_no_context_takeover = (data[0] & 1) != 0,
        .client_no_context_takeover = (data[0] & 2) != 0,
        .server_max_window_bits = bits_from(data[0] / 8),
        .client_max_window_bits = bits_from(data[1]),
        .client_max_window_bits_required = (data[0] & 4) != 0,
    };
    if (settings.server_max_window_bits == TWS_WINDOW_BITS_OPEN) {
        settings.server_max_window_bits = 11; /* it always has a value */
    }
    struct tws_extension_walker walker = {
        .rest = {.data = (const char *)data + HEAD, .length = size - HEAD}};
    struct tws_span name;
    struct tws_error err;
    while (tws_extension_next(&walker, &name, &err) == TWS_OK) {
        check_permessage(&settings, walker, TWS_CLIENT);
        check_permessage(&settings, walker, TWS_SERVER);
        check_frame(&settings.out, walker);
    }
    return 0;
}
