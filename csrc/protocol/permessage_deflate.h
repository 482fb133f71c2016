/* permessage-deflate (RFC 7692 §7.1): what an offer and an answer say, and
 * what follows from them for either end. Nothing here allocates. */
#ifndef TWS_PROTOCOL_PERMESSAGE_DEFLATE_H
#define TWS_PROTOCOL_PERMESSAGE_DEFLATE_H

#include "protocol/compression.h"
#include "protocol/deflate_params.h"

#define TWS_PERMESSAGE_DEFLATE TWS_SPAN("permessage-deflate")

/* The parameters of one offer, or of one answer. Zeroed: none. */
struct tws_permessage_deflate {
    bool server_no_context_takeover;
    bool client_no_context_takeover;
    uint8_t server_max_window_bits; /* 8 to 15, or TWS_WINDOW_BITS_NONE */
    uint8_t client_max_window_bits; /* the same; in an offer also
                                     * TWS_WINDOW_BITS_OPEN */
};

/* Adds a parameter as it came `from` an end: a client's offer or a server's
 * answer. TWS_REFUSED with http_status 0 where it is unknown, comes twice,
 * or has a value that it must not have: a server declines the offer, a client
 * fails the handshake. */
enum tws_status
tws_permessage_deflate_read(struct tws_permessage_deflate *params,
                            const struct tws_extension_param *param,
                            enum tws_role from, struct tws_error *err);

/* The parameters as a list; returns how many there are. All text is
 * static. */
enum { TWS_PERMESSAGE_DEFLATE_PARAMS = 4 };
size_t tws_permessage_deflate_list(
    const struct tws_permessage_deflate *params,
    struct tws_extension_param list[TWS_PERMESSAGE_DEFLATE_PARAMS]);

/* What one end wants; the names are those of the parameters. */
struct tws_permessage_deflate_settings {
    struct tws_deflate_settings out; /* how this end deflates; its window is
                                      * what was agreed, where that is less */
    size_t threshold;                /* see struct tws_compression_terms */

    /* A client asks the server for it, and takes no answer without; a server
     * keeps to it, and says so. */
    bool server_no_context_takeover;
    uint8_t server_max_window_bits; /* 8 to 15, or TWS_WINDOW_BITS_NONE: as it
                                     * comes */

    /* A client keeps to it, and says so; a server asks the client for it. */
    bool client_no_context_takeover;
    uint8_t client_max_window_bits; /* 8 to 15. A client: TWS_WINDOW_BITS_OPEN
                                     * lets the server choose, and
                                     * TWS_WINDOW_BITS_NONE does not. A server:
                                     * both ask for nothing */

    /* A server can ask for client_max_window_bits only where the client has
     * offered that (§7.1.2.2). True: other offers are declined; false: they
     * are accepted without. Of no meaning to a client. */
    bool client_max_window_bits_required;
};

/* Client: what to offer. */
struct tws_permessage_deflate tws_permessage_deflate_offer(
    const struct tws_permessage_deflate_settings *settings);

/* Client: judges the answer to tws_permessage_deflate_offer() of the same
 * settings. TWS_REFUSED with http_status 0: the handshake fails. */
enum tws_status tws_permessage_deflate_accept(
    const struct tws_permessage_deflate_settings *settings,
    const struct tws_permessage_deflate *answer,
    struct tws_compression_terms *terms, struct tws_error *err);

/* Server: judges an offer. TWS_REFUSED with http_status 0: it is declined. */
enum tws_status tws_permessage_deflate_negotiate(
    const struct tws_permessage_deflate_settings *settings,
    const struct tws_permessage_deflate *offer,
    struct tws_permessage_deflate *answer, struct tws_compression_terms *terms,
    struct tws_error *err);

#endif /* TWS_PROTOCOL_PERMESSAGE_DEFLATE_H */
