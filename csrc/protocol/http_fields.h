/* Grammar inside field values: comma-separated lists (RFC 9110 §5.6.1) and
 * extension lists with parameters (RFC 6455 §9.1). All walkers work in
 * place, allocate nothing and take time linear in the value's length. */
#ifndef TWS_PROTOCOL_HTTP_FIELDS_H
#define TWS_PROTOCOL_HTTP_FIELDS_H

#include "protocol/http1.h"

/* Drops the spaces and tabs at the front (OWS, RFC 9110 §5.6.3). */
void tws_http_skip_space(struct tws_span *text);
/* Takes the token at the front; false where there is none. */
bool tws_http_take_token(struct tws_span *text, struct tws_span *token);

/* Walks the comma-separated elements of one field value. Set `rest` to the
 * value and call until false; empty elements are passed over (RFC 9110
 * §5.6.1.2). Elements come trimmed of spaces and tabs. A comma inside a
 * quoted string does not separate. */
struct tws_list_walker {
    struct tws_span rest;
};
bool tws_list_next(struct tws_list_walker *walker, struct tws_span *element);

/* True when any field called `name` lists `token` as a whole element,
 * without regard to case ("notupgrade" does not contain "upgrade"). */
bool tws_http_lists_token(const struct tws_http_head *head,
                          struct tws_span name, struct tws_span token);

/* One parameter of an extension: `name`, and a value where has_value. The
 * value of a quoted string comes without its quotes; where it held
 * backslashes, `quoted_pairs` is true and tws_extension_unquote() removes
 * them. */
struct tws_extension_param {
    struct tws_span name;
    struct tws_span value;
    bool has_value;
    bool quoted_pairs;
};

/* Walks `extension-list` (RFC 6455 §9.1): tws_extension_next() steps to the
 * next extension, tws_extension_param_next() to its next parameter. Both
 * return TWS_OK, TWS_EOF at the end, or TWS_REFUSED (http_status 400) where
 * the grammar is broken; a quoted value must be a token once unquoted. The
 * parameters of an extension need not be walked before stepping on. */
struct tws_extension_walker {
    struct tws_span rest;   /* set to the field's value */
    struct tws_span params; /* private: of the extension stepped to */
};
enum tws_status tws_extension_next(struct tws_extension_walker *walker,
                                   struct tws_span *name,
                                   struct tws_error *err);
enum tws_status tws_extension_param_next(struct tws_extension_walker *walker,
                                         struct tws_extension_param *param,
                                         struct tws_error *err);
/* Copies the value without backslashes into `out` (room for value.length
 * bytes) and returns the length. */
size_t tws_extension_unquote(const struct tws_extension_param *param,
                             char *out);

#endif /* TWS_PROTOCOL_HTTP_FIELDS_H */
