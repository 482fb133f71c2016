/* Lists and extensions in the values of fields, against readers that go
 * letter by letter (RFC 9110 §5.6, RFC 6455 §9.1). */
#include "input.h"
#include "protocol/http_fields.h"

enum { LONGEST = 200, PARTS_MAX = 2 * LONGEST };

static bool
is_token_letter(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z')
           || (c >= 'a' && c <= 'z')
           || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool
is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* Where the element ends that begins here: at a comma outside of quotes. */
static size_t
element_end(const char *text, size_t length, size_t at)
{
    enum { OUTSIDE, INSIDE, ESCAPED } state = OUTSIDE;
    for (; at < length; at++) {
        char c = text[at];
        if (state == OUTSIDE && c == ',') {
            return at;
        }
        state = state == ESCAPED               ? INSIDE
                : state == INSIDE && c == '\\' ? ESCAPED
                : c == '"' ? (state == OUTSIDE ? INSIDE : OUTSIDE)
                           : state;
    }
    return length;
}

/* Elements as [start, end) pairs. */
static size_t
split(const char *text, size_t length, size_t parts[PARTS_MAX])
{
    size_t count = 0;
    for (size_t at = 0; at < length; at++) {
        size_t start = at;
        size_t end = element_end(text, length, at);
        at = end;
        while (start < end && is_space(text[start])) {
            start++;
        }
        while (end > start && is_space(text[end - 1])) {
            end--;
        }
        if (start < end) {
            parts[count++] = start;
            parts[count++] = end;
        }
    }
    return count;
}

static void
check_list(struct tws_span value, const size_t *parts, size_t count)
{
    struct tws_list_walker walker = {.rest = value};
    struct tws_span element;
    for (size_t i = 0; i < count; i += 2) {
        require(tws_list_next(&walker, &element));
        require(element.data == value.data + parts[i]);
        require(element.length == parts[i + 1] - parts[i]);
    }
    require(!tws_list_next(&walker, &element) && walker.rest.length == 0);
}

/* A reader's place in one element. */
struct place {
    const char *text;
    size_t at;
    size_t end;
};

static void
pass_space(struct place *place)
{
    while (place->at < place->end && is_space(place->text[place->at])) {
        place->at++;
    }
}

static bool
pass(struct place *place, char c)
{
    bool there = place->at < place->end && place->text[place->at] == c;
    place->at += there ? 1 : 0;
    return there;
}

/* Appends the letters of a token to `out`; in quotes some are escaped. */
static size_t
pass_token(struct place *place, bool quoted, char *out)
{
    size_t length = 0;
    while (place->at < place->end) {
        size_t skip = quoted && place->text[place->at] == '\\' ? 1 : 0;
        if (place->at + skip >= place->end
            || !is_token_letter(place->text[place->at + skip])) {
            break;
        }
        out[length++] = place->text[place->at + skip];
        place->at += skip + 1;
    }
    return length;
}

struct param {
    char name[LONGEST];
    size_t name_length;
    bool has_value;
    char value[LONGEST];
    size_t value_length;
};

/* The next parameter. TWS_EOF at the end. */
static enum tws_status
next_param(struct place *place, struct param *param)
{
    if (place->at == place->end) {
        return TWS_EOF;
    }
    if (!pass(place, ';')) {
        return TWS_REFUSED;
    }
    pass_space(place);
    param->name_length = pass_token(place, false, param->name);
    pass_space(place);
    param->has_value = pass(place, '=');
    param->value_length = 0;
    if (param->has_value) {
        pass_space(place);
        bool quoted = pass(place, '"');
        param->value_length = pass_token(place, quoted, param->value);
        if (param->value_length == 0 || (quoted && !pass(place, '"'))) {
            return TWS_REFUSED;
        }
        pass_space(place);
    }
    bool ends = place->at == place->end || place->text[place->at] == ';';
    return param->name_length > 0 && ends ? TWS_OK : TWS_REFUSED;
}

static bool
is_same(struct tws_span span, const char *text, size_t length)
{
    return tws_span_equal(span,
                          (struct tws_span){.data = text, .length = length});
}

static void
check_refused(enum tws_status status, const struct tws_error *err)
{
    require(status == TWS_REFUSED && err->status == TWS_REFUSED);
    require(err->http_status == 400 && err->reason[0] != '\0');
}

static void
check_params(struct tws_extension_walker *walker, struct place *place)
{
    static struct param expected;
    for (;;) {
        struct tws_extension_param param;
        struct tws_error err;
        char plain[LONGEST];
        struct tws_span before = walker->params;
        enum tws_status wanted = next_param(place, &expected);
        enum tws_status status =
            tws_extension_param_next(walker, &param, &err);
        require(status == wanted);
        if (status == TWS_EOF) {
            return;
        }
        if (status != TWS_OK) {
            check_refused(status, &err);
            require(tws_span_equal(before, walker->params));
            return;
        }
        require(is_same(param.name, expected.name, expected.name_length));
        require(param.has_value == expected.has_value);
        size_t length = tws_extension_unquote(&param, plain);
        struct tws_span value = {.data = plain, .length = length};
        require(is_same(value, expected.value, expected.value_length));
        require(param.quoted_pairs == (length < param.value.length));
    }
}

static void
check_extensions(struct tws_span value, const size_t *parts, size_t count)
{
    struct tws_extension_walker walker = {.rest = value};
    struct tws_span name;
    struct tws_error err;
    for (size_t i = 0; i < count; i += 2) {
        char expected[LONGEST];
        struct place place = {value.data, parts[i], parts[i + 1]};
        size_t length = pass_token(&place, false, expected);
        pass_space(&place);
        bool good = length > 0
                    && (place.at == place.end || place.text[place.at] == ';');
        enum tws_status status = tws_extension_next(&walker, &name, &err);
        require(status == (good ? TWS_OK : TWS_REFUSED));
        if (!good) {
            check_refused(status, &err);
            return;
        }
        require(is_same(name, expected, length));
        check_params(&walker, &place);
    }
    require(tws_extension_next(&walker, &name, &err) == TWS_EOF);
}

/* Whether some element is this token, in any case of letters. */
static void
check_lists_token(struct tws_span value, const size_t *parts, size_t count)
{
    static const struct tws_span token = {"upgrade", 7};
    struct tws_http_head head = {.field_count = 1};
    bool found = false;
    for (size_t i = 0; i < count; i += 2) {
        bool same = parts[i + 1] - parts[i] == token.length;
        for (size_t j = 0; same && j < token.length; j++) {
            same = (value.data[parts[i] + j] | 0x20) == token.data[j];
        }
        found = found || same;
    }
    head.fields[0].name = TWS_SPAN("CONNECTION");
    head.fields[0].value = value;
    require(tws_http_lists_token(&head, TWS_SPAN("Connection"), token)
            == found);
    require(!tws_http_lists_token(&head, TWS_SPAN("Upgrade"), token));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t parts[PARTS_MAX];
    struct tws_span value = {.data = (const char *)data, .length = size};
    if (size > LONGEST) {
        return 0;
    }
    size_t count = split(value.data, size, parts);
    check_list(value, parts, count);
    check_extensions(value, parts, count);
    check_lists_token(value, parts, count);
    return 0;
}
