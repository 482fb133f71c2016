#include "protocol/permessage_deflate.h"

#define SERVER_NO_CONTEXT_TAKEOVER TWS_SPAN("server_no_context_takeover")
#define CLIENT_NO_CONTEXT_TAKEOVER TWS_SPAN("client_no_context_takeover")
#define SERVER_MAX_WINDOW_BITS TWS_SPAN("server_max_window_bits")
#define CLIENT_MAX_WINDOW_BITS TWS_SPAN("client_max_window_bits")

/* Parameters ------------------------------------------------------------- */

enum tws_status
tws_permessage_deflate_read(struct tws_permessage_deflate *params,
                            const struct tws_extension_param *param,
                            enum tws_role from, struct tws_error *err)
{
    if (tws_span_equal(param->name, SERVER_NO_CONTEXT_TAKEOVER)) {
        return tws_deflate_read_flag(param,
                                     &params->server_no_context_takeover, err);
    }
    if (tws_span_equal(param->name, CLIENT_NO_CONTEXT_TAKEOVER)) {
        return tws_deflate_read_flag(param,
                                     &params->client_no_context_takeover, err);
    }
    if (tws_span_equal(param->name, SERVER_MAX_WINDOW_BITS)) {
        return tws_deflate_read_bits(param, false,
                                     &params->server_max_window_bits, err);
    }
    if (tws_span_equal(param->name, CLIENT_MAX_WINDOW_BITS)) {
        /* §7.1.2.2: without a value in an offer only. */
        return tws_deflate_read_bits(param, from == TWS_CLIENT,
                                     &params->client_max_window_bits, err);
    }
    return tws_deflate_unknown_param(param, err);
}

size_t
tws_permessage_deflate_list(
    const struct tws_permessage_deflate *params,
    struct tws_extension_param list[TWS_PERMESSAGE_DEFLATE_PARAMS])
{
    size_t count = 0;
    tws_deflate_list_flag(list, &count, SERVER_NO_CONTEXT_TAKEOVER,
                          params->server_no_context_takeover);
    tws_deflate_list_flag(list, &count, CLIENT_NO_CONTEXT_TAKEOVER,
                          params->client_no_context_takeover);
    tws_deflate_list_bits(list, &count, SERVER_MAX_WINDOW_BITS,
                          params->server_max_window_bits);
    tws_deflate_list_bits(list, &count, CLIENT_MAX_WINDOW_BITS,
                          params->client_max_window_bits);
    return count;
}

/* Agreeing --------------------------------------------------------------- */

/* What this end sends under a limit. */
static struct tws_deflate_settings
limited(const struct tws_deflate_settings *out, uint8_t bits)
{
    struct tws_deflate_settings settings = *out;
    settings.window_bits = tws_deflate_smaller_bits(out->window_bits, bits);
    return settings;
}

static uint8_t
window_for(uint8_t bits)
{
    return bits == TWS_WINDOW_BITS_NONE ? TWS_WINDOW_BITS_MAX : bits;
}

struct tws_permessage_deflate
tws_permessage_deflate_offer(
    const struct tws_permessage_deflate_settings *settings)
{
    return (struct tws_permessage_deflate){
        .server_no_context_takeover = settings->server_no_context_takeover,
        .client_no_context_takeover = settings->client_no_context_takeover,
        .server_max_window_bits = settings->server_max_window_bits,
        .client_max_window_bits = settings->client_max_window_bits,
    };
}

enum tws_status
tws_permessage_deflate_accept(
    const struct tws_permessage_deflate_settings *settings,
    const struct tws_permessage_deflate *answer,
    struct tws_compression_terms *terms, struct tws_error *err)
{
    /* §7.1.1.1: a server accepts it by saying so. */
    if (settings->server_no_context_takeover
        && !answer->server_no_context_takeover) {
        return tws_error_refused(
            err, 0,
            "permessage-deflate was agreed to without "
            "server_no_context_takeover, which was asked for");
    }
    /* §7.1.2.1: with the same value or a smaller one. */
    if (settings->server_max_window_bits != TWS_WINDOW_BITS_NONE
        && window_for(answer->server_max_window_bits)
               > settings->server_max_window_bits) {
        return tws_error_refused(
            err, 0,
            "permessage-deflate was agreed to with a server_max_window_bits "
            "of %d, expected %d at most",
            window_for(answer->server_max_window_bits),
            settings->server_max_window_bits);
    }
    if (settings->client_max_window_bits == TWS_WINDOW_BITS_NONE
        && answer->client_max_window_bits != TWS_WINDOW_BITS_NONE) {
        return tws_error_refused(
            err, 0,
            "permessage-deflate was agreed to with client_max_window_bits, "
            "which was not offered");
    }
    /* What the client has said of itself in the offer holds even where the
     * answer says nothing of it (§7.1.1.2, §7.1.2.2). */
    uint8_t bits = tws_deflate_smaller_bits(settings->client_max_window_bits,
                                            answer->client_max_window_bits);
    *terms = (struct tws_compression_terms){
        .out = limited(&settings->out, bits),
        .in_window_bits = window_for(answer->server_max_window_bits),
        .out_takeover = !settings->client_no_context_takeover
                        && !answer->client_no_context_takeover,
        .in_takeover = !answer->server_no_context_takeover,
        .threshold = settings->threshold,
    };
    return TWS_OK;
}

enum tws_status
tws_permessage_deflate_negotiate(
    const struct tws_permessage_deflate_settings *settings,
    const struct tws_permessage_deflate *offer,
    struct tws_permessage_deflate *answer, struct tws_compression_terms *terms,
    struct tws_error *err)
{
    struct tws_permessage_deflate agreed = {
        .server_no_context_takeover = settings->server_no_context_takeover
                                      || offer->server_no_context_takeover,
        /* Of an offer it is but a hint (§7.1.1.2): the answer binds the
         * client, so that this end can do without the window. */
        .client_no_context_takeover = settings->client_no_context_takeover
                                      || offer->client_no_context_takeover,
    };
    uint8_t limit = tws_deflate_smaller_bits(settings->server_max_window_bits,
                                             offer->server_max_window_bits);
    struct tws_deflate_settings out = limited(&settings->out, limit);
    if (limit != TWS_WINDOW_BITS_NONE) {
        agreed.server_max_window_bits = out.window_bits;
    }
    uint8_t wanted =
        tws_deflate_smaller_bits(settings->client_max_window_bits, 0);
    if (offer->client_max_window_bits != TWS_WINDOW_BITS_NONE) {
        /* A value in the offer is a hint, too (§7.1.2.2). */
        agreed.client_max_window_bits =
            tws_deflate_smaller_bits(wanted, offer->client_max_window_bits);
    }
    else if (settings->client_max_window_bits_required
             && window_for(wanted) < TWS_WINDOW_BITS_MAX) {
        return tws_error_refused(
            err, 0,
            "offer of permessage-deflate is without client_max_window_bits, "
            "which is to be %d",
            wanted);
    }
    *answer = agreed;
    *terms = (struct tws_compression_terms){
        .out = out,
        .in_window_bits = window_for(agreed.client_max_window_bits),
        .out_takeover = !agreed.server_no_context_takeover,
        .in_takeover = !agreed.client_no_context_takeover,
        .threshold = settings->threshold,
    };
    return TWS_OK;
}
