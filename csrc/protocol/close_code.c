#include "protocol/close_code.h"

#include "protocol/utf8.h"

enum { CODE_LENGTH = 2 };

bool
tws_close_code_on_wire(unsigned code)
{
    /* RFC 6455 §7.4.1 and its registry; §7.4.2 leaves 3000-3999 to
     * libraries and 4000-4999 to applications. 1004 is reserved; 1005, 1006
     * and 1015 are for reporting only. */
    return (code >= TWS_CLOSE_NORMAL && code <= TWS_CLOSE_NOACCEPT_DTYPE)
           || (code >= TWS_CLOSE_INVALID_DATA && code <= TWS_CLOSE_BAD_GATEWAY)
           || (code >= 3000 && code <= 4999);
}

enum tws_status
tws_close_parse(const uint8_t *data, size_t length, uint16_t *code,
                struct tws_span *reason, struct tws_error *err)
{
    /* RFC 6455 §7.1.5: no body stands for 1005. */
    if (length == 0) {
        *code = TWS_CLOSE_NO_STATUS;
        *reason = TWS_SPAN("");
        return TWS_OK;
    }
    /* RFC 6455 §5.5.1: a body begins with a 2-byte code. */
    if (length < CODE_LENGTH) {
        return tws_error_protocol(err, TWS_CLOSE_PROTOCOL_ERROR,
                                  "got a close payload of 1 byte, expected "
                                  "none or at least 2");
    }
    uint16_t got = tws_load_be16(data);
    /* RFC 6455 §7.4 */
    if (!tws_close_code_on_wire(got)) {
        return tws_error_protocol(err, TWS_CLOSE_PROTOCOL_ERROR,
                                  "got close code %u, expected 1000-1003, "
                                  "1007-1014 or 3000-4999",
                                  (unsigned)got);
    }
    /* RFC 6455 §5.5.1, §8.1 */
    if (!tws_utf8_valid(data + CODE_LENGTH, length - CODE_LENGTH)) {
        return tws_error_protocol(err, TWS_CLOSE_INVALID_DATA,
                                  "got a close reason that is not UTF-8 "
                                  "(with code %u), expected UTF-8",
                                  (unsigned)got);
    }
    *code = got;
    *reason = (struct tws_span){
        .data = (const char *)data + CODE_LENGTH,
        .length = length - CODE_LENGTH,
    };
    return TWS_OK;
}

/* The longest prefix that fits and ends between two characters. */
static size_t
fitting_length(struct tws_span reason)
{
    if (reason.length <= TWS_CLOSE_REASON_MAX) {
        return reason.length;
    }
    size_t length = TWS_CLOSE_REASON_MAX;
    /* A continuation byte behind the cut means it splits a character. */
    while (length > 0 && ((uint8_t)reason.data[length] & 0xc0) == 0x80) {
        length--;
    }
    return length;
}

void
tws_close_write(uint16_t code, struct tws_span reason, uint8_t *out,
                size_t *length)
{
    /* RFC 6455 §7.4.1: 1005 is never sent, it is the lack of a code. */
    if (code == TWS_CLOSE_NO_STATUS) {
        *length = 0;
        return;
    }
    size_t reason_length = fitting_length(reason);
    tws_store_be16(out, code);
    if (reason_length > 0) {
        memcpy(out + CODE_LENGTH, reason.data, reason_length);
    }
    *length = CODE_LENGTH + reason_length;
}
