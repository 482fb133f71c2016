#include "protocol/socks5.h"

#include "protocol/http1.h"
#include "protocol/origin.h"

#include <openssl/crypto.h>

enum {
    VERSION = 5,
    LOGIN_VERSION = 1, /* RFC 1929 §2 */

    NO_AUTHENTICATION = 0x00,
    USERNAME_PASSWORD = 0x02,
    NO_ACCEPTABLE_METHODS = 0xff,

    COMMAND_CONNECT = 1,

    ADDRESS_IPV4 = 1,
    ADDRESS_NAME = 3,
    ADDRESS_IPV6 = 4,
};

/* Messages go out and replies come in in turn. */
enum {
    SENDING_GREETING,
    AWAITING_METHOD,
    SENDING_LOGIN,
    AWAITING_LOGIN_REPLY,
    SENDING_REQUEST,
    AWAITING_REPLY,
    OPEN,
};

/* --- what is said --- */

static enum tws_status
check_credential(const char *what, struct tws_span text, size_t least,
                 struct tws_error *err)
{
    if (text.length < least || text.length > TWS_SOCKS5_TEXT_MAX) {
        return tws_error_refused(
            err, 0, "%s for the proxy has %zu bytes, expected %zu to %d", what,
            text.length, least, TWS_SOCKS5_TEXT_MAX);
    }
    for (size_t i = 0; i < text.length; i++) {
        uint8_t byte = (uint8_t)text.data[i];
        if (byte < 0x20 || byte == 0x7f) {
            return tws_error_refused(
                err, 0, "%s for the proxy holds a control byte", what);
        }
    }
    return TWS_OK;
}

static enum tws_status
check_offer(const struct tws_socks5_offer *offer, struct tws_error *err)
{
    if (offer->port == 0) {
        return tws_error_refused(err, 0, "port is 0, expected 1 to 65535");
    }
    if (offer->address != NULL) {
        if (offer->address_length != 4 && offer->address_length != 16) {
            return tws_error_refused(err, 0,
                                     "address has %zu bytes, expected 4 or 16",
                                     offer->address_length);
        }
    }
    else if (offer->name.length == 0
             || offer->name.length > TWS_SOCKS5_TEXT_MAX) {
        return tws_error_refused(err, 0,
                                 "host name has %zu bytes, expected 1 to %d",
                                 offer->name.length, TWS_SOCKS5_TEXT_MAX);
    }
    else if (!tws_host_valid(offer->name)
             || memchr(offer->name.data, ':', offer->name.length) != NULL) {
        return tws_error_refused(err, 0,
                                 "host is \"%.*s\", expected a host name",
                                 TWS_HTTP_QUOTED(offer->name));
    }
    if (!offer->credentials) {
        return TWS_OK;
    }
    enum tws_status status =
        check_credential("username", offer->username, 1, err);
    return status == TWS_OK
               ? check_credential("password", offer->password, 0, err)
               : status;
}

/* A length octet and that many bytes. */
static size_t
put_text(uint8_t *out, struct tws_span text)
{
    out[0] = (uint8_t)text.length;
    if (text.length > 0) {
        memcpy(out + 1, text.data, text.length);
    }
    return 1 + text.length;
}

/* RFC 1929 §2: VER ULEN UNAME PLEN PASSWD. */
static void
write_login(struct tws_socks5 *socks, const struct tws_socks5_offer *offer)
{
    size_t length = 1;
    socks->login[0] = LOGIN_VERSION;
    length += put_text(socks->login + length, offer->username);
    length += put_text(socks->login + length, offer->password);
    socks->login_length = length;
}

/* RFC 1928 §4: VER CMD RSV ATYP DST.ADDR DST.PORT. */
static void
write_request(struct tws_socks5 *socks, const struct tws_socks5_offer *offer)
{
    uint8_t *out = socks->request;
    size_t length = 4;
    out[0] = VERSION;
    out[1] = COMMAND_CONNECT;
    out[2] = 0;
    if (offer->address == NULL) {
        out[3] = ADDRESS_NAME;
        length += put_text(out + length, offer->name);
    }
    else {
        out[3] = offer->address_length == 4 ? ADDRESS_IPV4 : ADDRESS_IPV6;
        memcpy(out + length, offer->address, offer->address_length);
        length += offer->address_length;
    }
    tws_store_be16(out + length, offer->port);
    socks->request_length = length + 2;
}

enum tws_status
tws_socks5_init(struct tws_socks5 *socks, const struct tws_socks5_offer *offer,
                struct tws_error *err)
{
    enum tws_status status = check_offer(offer, err);
    if (status != TWS_OK) {
        return status;
    }
    *socks = (struct tws_socks5){
        .state = SENDING_GREETING,
        .credentials = offer->credentials,
        /* RFC 1928 §3: VER NMETHODS METHODS. */
        .greeting = {VERSION, 1, NO_AUTHENTICATION},
    };
    if (offer->credentials) {
        socks->greeting[1] = 2;
        socks->greeting[3] = USERNAME_PASSWORD;
        write_login(socks, offer);
    }
    write_request(socks, offer);
    return TWS_OK;
}

void
tws_socks5_wipe(struct tws_socks5 *socks)
{
    OPENSSL_cleanse(socks, sizeof(*socks));
}

static void
wipe_login(struct tws_socks5 *socks)
{
    OPENSSL_cleanse(socks->login, sizeof(socks->login));
    socks->login_length = 0;
}

struct tws_span
tws_socks5_output(const struct tws_socks5 *socks)
{
    const uint8_t *message = NULL;
    size_t length = 0;
    switch (socks->state) {
    case SENDING_GREETING:
        message = socks->greeting;
        length = 2 + (size_t)socks->greeting[1];
        break;
    case SENDING_LOGIN:
        message = socks->login;
        length = socks->login_length;
        break;
    case SENDING_REQUEST:
        message = socks->request;
        length = socks->request_length;
        break;
    default:
        return TWS_SPAN("");
    }
    return (struct tws_span){.data = (const char *)message + socks->sent,
                             .length = length - socks->sent};
}

void
tws_socks5_sent(struct tws_socks5 *socks, size_t length)
{
    if (length < tws_socks5_output(socks).length) {
        socks->sent += length;
        return;
    }
    socks->sent = 0;
    socks->got = 0;
    socks->need = 2;
    if (socks->state == SENDING_GREETING) {
        socks->state = AWAITING_METHOD;
    }
    else if (socks->state == SENDING_LOGIN) {
        wipe_login(socks);
        socks->state = AWAITING_LOGIN_REPLY;
    }
    else if (socks->state == SENDING_REQUEST) {
        /* Up to the octet behind ATYP, which tells how many follow. */
        socks->need = sizeof(socks->head);
        socks->state = AWAITING_REPLY;
    }
}

/* --- what is answered --- */

static enum tws_status
check_version(uint8_t got, uint8_t expected, struct tws_error *err)
{
    if (got == expected) {
        return TWS_OK;
    }
    return tws_error_refused(
        err, 0,
        expected == VERSION
            ? "proxy answered with version %u, expected SOCKS version %u; "
              "it may be no SOCKS 5 proxy"
            : "proxy answered the login with version %u, expected %u",
        (unsigned)got, (unsigned)expected);
}

/* RFC 1928 §3. */
static enum tws_status
take_method(struct tws_socks5 *socks, uint8_t method, struct tws_error *err)
{
    if (method == NO_AUTHENTICATION) {
        wipe_login(socks);
        socks->state = SENDING_REQUEST;
        return TWS_OK;
    }
    if (method == USERNAME_PASSWORD && socks->credentials) {
        socks->state = SENDING_LOGIN;
        return TWS_OK;
    }
    if (method != NO_ACCEPTABLE_METHODS) {
        return tws_error_refused(
            err, 0,
            "proxy chose authentication method %u, which was not "
            "offered",
            (unsigned)method);
    }
    return tws_error_refused(
        err, 0,
        socks->credentials
            ? "proxy refused: it takes neither a username and password nor "
              "clients without (255)"
            : "proxy refused: it wants authentication, give a username and "
              "a password (255)");
}

static const char *
reply_text(uint8_t code)
{
    /* RFC 1928 §6. */
    static const char *const TEXTS[] = {
        "succeeded",
        "general SOCKS server failure",
        "connection not allowed by ruleset",
        "network unreachable",
        "host unreachable",
        "connection refused",
        "TTL expired",
        "command not supported",
        "address type not supported",
    };
    return code < TWS_ARRAY_SIZE(TEXTS) ? TEXTS[code] : "unassigned error";
}

/* RFC 1928 §6: VER REP RSV ATYP BND.ADDR BND.PORT. A refusal counts without
 * what follows its code, which not every proxy sends. RSV means nothing, and
 * neither does the address that the proxy is bound to; but its length must
 * be known to find the end. */
static enum tws_status
take_reply_byte(struct tws_socks5 *socks, size_t position, uint8_t byte,
                struct tws_error *err)
{
    if (position == 1 && byte != 0) {
        return tws_error_refused(err, 0, "proxy refused: %s (%u)",
                                 reply_text(byte), (unsigned)byte);
    }
    if (position == 3) {
        if (byte == ADDRESS_IPV4) {
            socks->need = 4 + 4 + 2;
        }
        else if (byte == ADDRESS_IPV6) {
            socks->need = 4 + 16 + 2;
        }
        else if (byte != ADDRESS_NAME) {
            return tws_error_refused(
                err, 0,
                "proxy answered with address type %u, expected %d, "
                "%d or %d",
                (unsigned)byte, ADDRESS_IPV4, ADDRESS_NAME, ADDRESS_IPV6);
        }
    }
    if (position == 4 && socks->head[3] == ADDRESS_NAME) {
        socks->need = 4 + 1 + (size_t)byte + 2;
    }
    if (position + 1 == socks->need) {
        socks->state = OPEN;
    }
    return TWS_OK;
}

static enum tws_status
take_byte(struct tws_socks5 *socks, uint8_t byte, struct tws_error *err)
{
    size_t position = socks->got;
    bool login = socks->state == AWAITING_LOGIN_REPLY;
    if (position == 0) {
        return check_version(byte, login ? LOGIN_VERSION : VERSION, err);
    }
    if (socks->state == AWAITING_REPLY) {
        return take_reply_byte(socks, position, byte, err);
    }
    if (!login) {
        return take_method(socks, byte, err);
    }
    if (byte != 0) {
        return tws_error_refused(
            err, 0, "proxy refused: username or password not accepted (%u)",
            (unsigned)byte);
    }
    socks->state = SENDING_REQUEST;
    return TWS_OK;
}

size_t
tws_socks5_wanted(const struct tws_socks5 *socks)
{
    switch (socks->state) {
    case AWAITING_METHOD:
    case AWAITING_LOGIN_REPLY:
    case AWAITING_REPLY:
        return socks->need - socks->got;
    default:
        return 0;
    }
}

enum tws_status
tws_socks5_take(struct tws_socks5 *socks, const uint8_t *data, size_t length,
                size_t *consumed, struct tws_error *err)
{
    size_t used = 0;
    enum tws_status status = TWS_OK;
    while (used < length && tws_socks5_wanted(socks) > 0) {
        uint8_t byte = data[used];
        if (socks->got < sizeof(socks->head)) {
            socks->head[socks->got] = byte;
        }
        status = take_byte(socks, byte, err);
        if (status != TWS_OK) {
            break;
        }
        socks->got++;
        used++;
    }
    *consumed = used;
    if (status != TWS_OK) {
        return status;
    }
    return socks->state == OPEN ? TWS_OK : TWS_AGAIN;
}
