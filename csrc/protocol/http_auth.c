#include "protocol/http_auth.h"

#include "protocol/http_fields.h"
#include "protocol/utf8.h"

/* Empty elements of a list are passed over (RFC 9110 §5.6.1.2). */
static void
skip_commas(struct tws_span *text)
{
    tws_http_skip_space(text);
    while (text->length > 0 && text->data[0] == ',') {
        tws_span_advance(text, 1);
        tws_http_skip_space(text);
    }
}

/* At the end of the value or of a list's element. */
static bool
is_element_end(struct tws_span text)
{
    return text.length == 0 || text.data[0] == ',';
}

static bool
is_token68_byte(char c)
{
    char lower = tws_ascii_lower(c);
    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '-'
           || c == '.' || c == '_' || c == '~' || c == '+' || c == '/';
}

/* token68 = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"=",
 * alone in its element: what goes on behind it is a parameter. */
static bool
take_token68(struct tws_span *text, struct tws_span *token68)
{
    struct tws_span rest = *text;
    size_t i = 0;
    while (i < rest.length && is_token68_byte(rest.data[i])) {
        i++;
    }
    if (i == 0) {
        return false;
    }
    while (i < rest.length && rest.data[i] == '=') {
        i++;
    }
    struct tws_span found = {.data = rest.data, .length = i};
    tws_span_advance(&rest, i);
    tws_http_skip_space(&rest);
    if (!is_element_end(rest)) {
        return false;
    }
    *token68 = found;
    *text = rest;
    return true;
}

/* quoted-string (RFC 9110 §5.6.4), from its first quote. */
static bool
take_quoted(struct tws_span *text, struct tws_auth_param *param)
{
    size_t i = 1;
    param->quoted_pairs = false;
    while (i < text->length && text->data[i] != '"') {
        if (text->data[i] == '\\') {
            param->quoted_pairs = true;
            i++;
        }
        if (i >= text->length
            || !tws_http_is_field_value(
                (struct tws_span){.data = text->data + i, .length = 1})) {
            return false;
        }
        i++;
    }
    if (i >= text->length) {
        return false;
    }
    param->value = (struct tws_span){.data = text->data + 1, .length = i - 1};
    tws_span_advance(text, i + 1);
    return true;
}

static enum tws_status
malformed(struct tws_error *err, const char *expected)
{
    return tws_error_refused(
        err, 400, "malformed authentication field, expected %s", expected);
}

/* Takes the value behind a parameter's name, up to the end of its element. */
static enum tws_status
take_value(struct tws_span *text, struct tws_auth_param *param,
           struct tws_error *err)
{
    tws_span_advance(text, 1); /* the equals sign */
    tws_http_skip_space(text);
    bool quoted = text->length > 0 && text->data[0] == '"';
    param->quoted_pairs = false;
    if (quoted ? !take_quoted(text, param)
               : !tws_http_take_token(text, &param->value)) {
        return malformed(err, "a token or a quoted string as a parameter's "
                              "value");
    }
    tws_http_skip_space(text);
    return is_element_end(*text)
               ? TWS_OK
               : malformed(err, "a comma between parameters");
}

static enum tws_status
add_param(struct tws_auth *auth, const struct tws_auth_param *param,
          struct tws_error *err)
{
    if (tws_auth_find(auth, param->name) != NULL) {
        return malformed(err, "each parameter once"); /* RFC 9110 §11.2 */
    }
    if (auth->param_count == TWS_AUTH_PARAMS_MAX) {
        return malformed(err, "fewer parameters");
    }
    auth->params[auth->param_count] = *param;
    auth->param_count++;
    return TWS_OK;
}

/* Takes parameters up to the next challenge, which is a token that no equals
 * sign follows. `*text` is left in front of it. */
static enum tws_status
take_params(struct tws_span *text, struct tws_auth *auth,
            struct tws_error *err)
{
    struct tws_span rest = *text;
    for (;;) {
        struct tws_auth_param param;
        skip_commas(&rest);
        struct tws_span element = rest;
        if (rest.length == 0) {
            break;
        }
        if (!tws_http_take_token(&rest, &param.name)) {
            return malformed(err, "a parameter or another scheme");
        }
        tws_http_skip_space(&rest);
        if (rest.length == 0 || rest.data[0] != '=') {
            if (element.data == text->data) { /* no comma before it */
                return malformed(err, "parameters behind the scheme");
            }
            rest = element;
            break;
        }
        enum tws_status status = take_value(&rest, &param, err);
        if (status == TWS_OK) {
            status = add_param(auth, &param, err);
        }
        if (status != TWS_OK) {
            return status;
        }
    }
    *text = rest;
    return TWS_OK;
}

enum tws_status
tws_auth_next(struct tws_auth_walker *walker, struct tws_auth *auth,
              struct tws_error *err)
{
    struct tws_span rest = walker->rest;
    skip_commas(&rest);
    if (rest.length == 0) {
        walker->rest = rest;
        return TWS_EOF;
    }
    auth->token68 = TWS_SPAN("");
    auth->param_count = 0;
    if (!tws_http_take_token(&rest, &auth->scheme)) {
        return malformed(err, "the name of a scheme");
    }
    if (!is_element_end(rest)) {
        if (rest.data[0] != ' ' && rest.data[0] != '\t') {
            return malformed(err, "a space behind the scheme");
        }
        tws_http_skip_space(&rest);
        if (!take_token68(&rest, &auth->token68)) {
            enum tws_status status = take_params(&rest, auth, err);
            if (status != TWS_OK) {
                return status;
            }
        }
    }
    walker->rest = rest;
    return TWS_OK;
}

enum tws_status
tws_auth_parse(struct tws_span value, struct tws_auth *auth,
               struct tws_error *err)
{
    struct tws_auth_walker walker = {.rest = value};
    struct tws_span start = tws_http_trim(value);
    /* Credentials are no list: no comma stands around them. */
    if (start.length == 0 || start.data[0] == ',') {
        return malformed(err, "the name of a scheme");
    }
    enum tws_status status = tws_auth_next(&walker, auth, err);
    if (status == TWS_OK && walker.rest.length > 0) {
        return malformed(err, "the credentials of one scheme");
    }
    return status;
}

const struct tws_auth_param *
tws_auth_find(const struct tws_auth *auth, struct tws_span name)
{
    for (size_t i = 0; i < auth->param_count; i++) {
        if (tws_span_equal_nocase(auth->params[i].name, name)) {
            return &auth->params[i];
        }
    }
    return NULL;
}

size_t
tws_auth_unquote(const struct tws_auth_param *param, char *out)
{
    size_t length = 0;
    for (size_t i = 0; i < param->value.length; i++) {
        if (param->quoted_pairs && param->value.data[i] == '\\') {
            i++; /* a quoted pair is whole */
        }
        out[length] = param->value.data[i];
        length++;
    }
    return length;
}

static bool
value_is(const struct tws_auth_param *param, struct tws_span text, bool fold)
{
    struct tws_span value = param->value;
    size_t at = 0;
    for (size_t i = 0; i < value.length; i++, at++) {
        if (param->quoted_pairs && value.data[i] == '\\') {
            i++;
        }
        if (at >= text.length) {
            return false;
        }
        char got = value.data[i];
        char expected = text.data[at];
        if (fold ? tws_ascii_lower(got) != tws_ascii_lower(expected)
                 : got != expected) {
            return false;
        }
    }
    return at == text.length;
}

bool
tws_auth_value_is(const struct tws_auth_param *param, struct tws_span text)
{
    return value_is(param, text, false);
}

bool
tws_auth_value_is_nocase(const struct tws_auth_param *param,
                         struct tws_span text)
{
    return value_is(param, text, true);
}

bool
tws_auth_is_text(struct tws_span text)
{
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c < 0x20 || c == 0x7f) {
            return false;
        }
    }
    return tws_utf8_valid((const uint8_t *)text.data, text.length);
}

bool
tws_auth_is_realm(struct tws_span text)
{
    for (size_t i = 0; i < text.length; i++) {
        char c = text.data[i];
        if (c < 0x20 || c > 0x7e || c == '"' || c == '\\') {
            return false;
        }
    }
    return true;
}

enum tws_status
tws_auth_append(struct tws_buffer *out, const struct tws_span *parts,
                size_t count, struct tws_error *err)
{
    size_t before = tws_buffer_length(out);
    for (size_t i = 0; i < count; i++) {
        if (tws_buffer_append(out, parts[i].data, parts[i].length) != TWS_OK) {
            out->end = out->start + before;
            return tws_error_nomem(err);
        }
    }
    return TWS_OK;
}
