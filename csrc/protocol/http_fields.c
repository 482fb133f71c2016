#include "protocol/http_fields.h"

/* How much of `text` stands before the first comma outside quoted strings
 * (RFC 9110 §5.6.4); all of it where there is none. */
static size_t
element_length(struct tws_span text)
{
    bool quoted = false;
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        if (c == '"') {
            quoted = !quoted;
        }
        else if (quoted && c == '\\') {
            i++; /* what a quoted-pair holds ends nothing */
        }
        else if (!quoted && c == ',') {
            return i;
        }
    }
    return text.length;
}

void
tws_http_skip_space(struct tws_span *text)
{
    size_t i = 0;
    while (i < text->length
           && (text->data[i] == ' ' || text->data[i] == '\t')) {
        i++;
    }
    tws_span_advance(text, i);
}

bool
tws_http_take_token(struct tws_span *text, struct tws_span *token)
{
    size_t i = 0;
    while (i < text->length
           && tws_http_is_token(
               (struct tws_span){.data = text->data + i, .length = 1})) {
        i++;
    }
    *token = (struct tws_span){.data = text->data, .length = i};
    tws_span_advance(text, i);
    return i > 0;
}

bool
tws_list_next(struct tws_list_walker *walker, struct tws_span *element)
{
    while (walker->rest.length > 0) {
        struct tws_span found = {.data = walker->rest.data,
                                 .length = element_length(walker->rest)};
        bool comma = found.length < walker->rest.length;
        tws_span_advance(&walker->rest, found.length + (comma ? 1 : 0));
        found = tws_http_trim(found);
        if (found.length > 0) {
            *element = found;
            return true;
        }
    }
    return false;
}

bool
tws_http_lists_token(const struct tws_http_head *head, struct tws_span name,
                     struct tws_span token)
{
    for (size_t i = 0; i < head->field_count; i++) {
        if (!tws_span_equal_nocase(head->fields[i].name, name)) {
            continue;
        }
        struct tws_list_walker walker = {.rest = head->fields[i].value};
        struct tws_span element;
        while (tws_list_next(&walker, &element)) {
            if (tws_span_equal_nocase(element, token)) {
                return true;
            }
        }
    }
    return false;
}

/* `rest` is what stands behind an extension's name or a parameter. */
static enum tws_status
expect_semicolon(struct tws_span rest, struct tws_error *err)
{
    if (rest.length == 0 || rest.data[0] == ';') {
        return TWS_OK;
    }
    return tws_error_refused(
        err, 400, "extension list goes on with \"%.*s\", expected ';' or ','",
        TWS_HTTP_QUOTED(rest));
}

/* extension = extension-token *( ";" extension-param ), white space allowed
 * between any two words (RFC 6455 §9.1, §4.3). */
enum tws_status
tws_extension_next(struct tws_extension_walker *walker, struct tws_span *name,
                   struct tws_error *err)
{
    struct tws_list_walker list = {.rest = walker->rest};
    struct tws_span element;
    if (!tws_list_next(&list, &element)) {
        walker->rest = list.rest;
        walker->params = TWS_SPAN("");
        return TWS_EOF;
    }
    struct tws_span params = element;
    struct tws_span token;
    if (!tws_http_take_token(&params, &token)) {
        return tws_error_refused(err, 400,
                                 "extension is \"%.*s\", expected a token",
                                 TWS_HTTP_QUOTED(element));
    }
    tws_http_skip_space(&params);
    enum tws_status status = expect_semicolon(params, err);
    if (status != TWS_OK) {
        return status;
    }
    walker->rest = list.rest;
    walker->params = params;
    *name = token;
    return TWS_OK;
}

/* Takes the quoted string at the front of `rest`. What it holds must be a
 * token once unquoted (RFC 6455 §9.1), so that everything but the token
 * bytes is refused, quoted-pair or not. */
static enum tws_status
take_quoted(struct tws_span *rest, struct tws_extension_param *param,
            struct tws_error *err)
{
    struct tws_span text = *rest;
    tws_span_advance(&text, 1);
    const char *start = text.data;
    struct tws_span part;
    bool token = tws_http_take_token(&text, &part);
    bool quoted_pairs = false;
    while (text.length > 0 && text.data[0] == '\\') {
        quoted_pairs = true;
        tws_span_advance(&text, 1);
        token = tws_http_take_token(&text, &part);
        if (!token) {
            break;
        }
    }
    if (!token || text.length == 0 || text.data[0] != '"') {
        return tws_error_refused(
            err, 400,
            "quoted value of extension parameter %.*s is %.*s, expected a "
            "token in quotes",
            TWS_HTTP_QUOTED(param->name), TWS_HTTP_QUOTED(*rest));
    }
    param->quoted_pairs = quoted_pairs;
    param->value = (struct tws_span){.data = start,
                                     .length = (size_t)(text.data - start)};
    tws_span_advance(&text, 1);
    *rest = text;
    return TWS_OK;
}

/* extension-param = token [ "=" (token | quoted-string) ] */
enum tws_status
tws_extension_param_next(struct tws_extension_walker *walker,
                         struct tws_extension_param *param,
                         struct tws_error *err)
{
    struct tws_span rest = walker->params;
    if (rest.length == 0) {
        return TWS_EOF;
    }
    tws_span_advance(&rest, 1); /* the semicolon */
    tws_http_skip_space(&rest);
    struct tws_extension_param found = {.value = TWS_SPAN("")};
    if (!tws_http_take_token(&rest, &found.name)) {
        return tws_error_refused(
            err, 400, "extension parameter is \"%.*s\", expected a token",
            TWS_HTTP_QUOTED(rest));
    }
    tws_http_skip_space(&rest);
    if (rest.length > 0 && rest.data[0] == '=') {
        found.has_value = true;
        tws_span_advance(&rest, 1);
        tws_http_skip_space(&rest);
        if (rest.length > 0 && rest.data[0] == '"') {
            enum tws_status status = take_quoted(&rest, &found, err);
            if (status != TWS_OK) {
                return status;
            }
        }
        else if (!tws_http_take_token(&rest, &found.value)) {
            return tws_error_refused(
                err, 400,
                "value of extension parameter %.*s is \"%.*s\", expected a "
                "token",
                TWS_HTTP_QUOTED(found.name), TWS_HTTP_QUOTED(rest));
        }
        tws_http_skip_space(&rest);
    }
    enum tws_status status = expect_semicolon(rest, err);
    if (status != TWS_OK) {
        return status;
    }
    walker->params = rest;
    *param = found;
    return TWS_OK;
}

size_t
tws_extension_unquote(const struct tws_extension_param *param, char *out)
{
    size_t length = 0;
    for (size_t i = 0; i < param->value.length; i++) {
        /* A backslash is no token byte: it always begins a quoted-pair. */
        if (param->value.data[i] != '\\') {
            out[length] = param->value.data[i];
            length++;
        }
    }
    return length;
}
