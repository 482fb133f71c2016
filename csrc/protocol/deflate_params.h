/* What the parameters of permessage-deflate and of deflate-frame have in
 * common. A parameter that comes twice, or has not the form that it must
 * have, is TWS_REFUSED with http_status 0: a server declines the offer, a
 * client fails the handshake, with the reason. */
#ifndef TWS_PROTOCOL_DEFLATE_PARAMS_H
#define TWS_PROTOCOL_DEFLATE_PARAMS_H

#include "protocol/http_fields.h"

enum {
    TWS_WINDOW_BITS_NONE = 0,   /* the parameter is not there */
    TWS_WINDOW_BITS_OPEN = 255, /* it is there, without a value */
};

/* A parameter that is there or not, and has no value. Sets *flag, which must
 * be false before. */
enum tws_status tws_deflate_read_flag(const struct tws_extension_param *param,
                                      bool *flag, struct tws_error *err);

/* 8 to 15, decimal, without leading zeroes (RFC 7692 §7.1.2); or, where `open`
 * allows that, no value: TWS_WINDOW_BITS_OPEN. *bits must be
 * TWS_WINDOW_BITS_NONE before. */
enum tws_status tws_deflate_read_bits(const struct tws_extension_param *param,
                                      bool open, uint8_t *bits,
                                      struct tws_error *err);

enum tws_status
tws_deflate_unknown_param(const struct tws_extension_param *param,
                          struct tws_error *err);

/* Append to a list what is there: `flag`, `bits`. The text of values is
 * static, `name` is borrowed for as long as the list is used. */
void tws_deflate_list_flag(struct tws_extension_param *list, size_t *count,
                           struct tws_span name, bool flag);
void tws_deflate_list_bits(struct tws_extension_param *list, size_t *count,
                           struct tws_span name, uint8_t bits);

/* The smaller limit; TWS_WINDOW_BITS_OPEN and TWS_WINDOW_BITS_NONE are none,
 * and where both are none, so is the result (TWS_WINDOW_BITS_NONE). */
uint8_t tws_deflate_smaller_bits(uint8_t a, uint8_t b);

#endif /* TWS_PROTOCOL_DEFLATE_PARAMS_H */
