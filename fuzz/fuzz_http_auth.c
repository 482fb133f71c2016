/* Challenges and credentials of HTTP authentication. The first byte chooses
 * what the bytes behind it are: the values of fields, split at NUL bytes,
 * that a server's credentials and a client's challenges are read from, or the
 * parts of what a client is to send, which a server then reads back. */
#include "input.h"
#include "protocol/auth_client.h"
#include "protocol/basic_auth.h"
#include "protocol/digest_auth.h"
#include "protocol/digest_nonces.h"

#define REALM TWS_SPAN("realm")
#define TARGET TWS_SPAN("/chat?x=1")

/* Memory of exactly that size. */
static char *
allocate(size_t size)
{
    char *memory = malloc(size > 0 ? size : 1);
    require(memory != NULL);
    return memory;
}

static void
check_param(const struct tws_auth *auth, const struct tws_auth_param *param,
            struct tws_span whole)
{
    require(tws_http_is_token(param->name) && is_inside(param->name, whole));
    require(is_inside(param->value, whole));
    require(tws_http_is_field_value(param->value));
    require(tws_auth_find(auth, param->name) == param);
    char *out = allocate(param->value.length);
    struct tws_span plain = {.data = out,
                             .length = tws_auth_unquote(param, out)};
    require(plain.length <= param->value.length);
    require(param->quoted_pairs == (plain.length < param->value.length));
    require(tws_auth_value_is(param, plain));
    require(tws_auth_value_is_nocase(param, plain));
    free(out);
}

static void
check_basic(struct tws_span token68)
{
    char *out = allocate(tws_basic_room(token68));
    struct tws_span user;
    struct tws_span password;
    struct tws_error err;
    if (tws_basic_decode(token68, out, &user, &password, &err) == TWS_OK) {
        struct tws_buffer again = TWS_BUFFER_EMPTY;
        require(tws_basic_write(&again, user, password, &err) == TWS_OK);
        struct tws_span value = tws_buffer_span(&again);
        tws_span_advance(&value, strlen("Basic "));
        require(tws_span_equal(value, token68)); /* it has one form */
        tws_buffer_release(&again);
    }
    else {
        require(err.http_status == 401);
    }
    free(out);
}

static void
check_digest(const struct tws_auth *auth)
{
    struct tws_digest_credentials credentials;
    struct tws_error err;
    enum tws_status status = tws_digest_read(auth, REALM, TWS_SPAN("GET"),
                                             TARGET, &credentials, &err);
    if (status != TWS_OK) {
        require(status == TWS_REFUSED);
        require(err.http_status == 400 || err.http_status == 401);
        return;
    }
    size_t room = credentials.username.value.length;
    char *out = allocate(room);
    size_t length;
    require(credentials.nc > 0);
    if (tws_digest_username(&credentials, out, &length, &err) == TWS_OK) {
        require(length <= room);
        require(tws_auth_is_text((struct tws_span){out, length}));
    }
    else {
        require(err.http_status == 400);
    }
    free(out);
    static const struct tws_span HA1 = {"00000000000000000000000000000000",
                                        32};
    bool match = true;
    require(tws_digest_verify(&credentials, HA1, &match, &err) == TWS_OK);
    if (match) {
        require(tws_digest_is_hex(credentials.request.algorithm,
                                  credentials.response));
    }
    static const uint8_t SECRET[TWS_NONCE_SECRET] = "secret";
    static struct tws_nonces nonces; /* large; made anew each time */
    enum tws_nonce_state state;
    tws_nonces_init(&nonces, SECRET, UINT64_MAX);
    require(tws_nonces_use(&nonces, credentials.request.nonce.value,
                           credentials.nc, 0, &state, &err)
            == TWS_OK);
    require(state == TWS_NONCE_GOOD || nonces.count == 0);
}

static void
check_auth(const struct tws_auth *auth, struct tws_span whole)
{
    require(tws_http_is_token(auth->scheme) && is_inside(auth->scheme, whole));
    require(auth->param_count <= TWS_AUTH_PARAMS_MAX);
    require(auth->token68.length == 0 || auth->param_count == 0);
    require(is_inside(auth->token68, whole));
    for (size_t i = 0; i < auth->param_count; i++) {
        check_param(auth, &auth->params[i], whole);
    }
    check_basic(auth->token68);
    check_digest(auth);
}

static void
check_value(struct tws_span value)
{
    struct tws_auth_walker walker = {.rest = value};
    struct tws_auth auth;
    struct tws_error err = {0};
    enum tws_status status;
    size_t count = 0;
    while ((status = tws_auth_next(&walker, &auth, &err)) == TWS_OK) {
        count++;
        require(is_inside(walker.rest, value));
        check_auth(&auth, value);
    }
    require(status == TWS_EOF ? walker.rest.length == 0
                              : err.http_status == 400);
    if (tws_auth_parse(value, &auth, &err) == TWS_OK) {
        require(count == 1 && status == TWS_EOF);
    }
}

/* A client's answer must be what a server takes. */
static void
check_answer(struct tws_span value, const struct tws_auth_client *client)
{
    struct tws_auth auth;
    struct tws_error err;
    require(tws_http_is_field_value(value));
    require(tws_auth_parse(value, &auth, &err) == TWS_OK);
    check_auth(&auth, value);
    if (auth.token68.length > 0) {
        return; /* Basic, see check_basic() */
    }
    const struct tws_auth_param *realm = tws_auth_find(&auth, REALM);
    const struct tws_auth_param *userhash =
        tws_auth_find(&auth, TWS_SPAN("userhash"));
    require(realm != NULL);
    char *plain = allocate(realm->value.length);
    struct tws_span own = {.data = plain,
                           .length = tws_auth_unquote(realm, plain)};
    struct tws_digest_credentials credentials;
    enum tws_status status = tws_digest_read(
        &auth, own, client->method, client->target, &credentials, &err);
    const struct tws_auth_param *nonce =
        tws_auth_find(&auth, TWS_SPAN("nonce"));
    if (userhash == NULL && !nonce->quoted_pairs) {
        char ha1[TWS_DIGEST_HEX_MAX];
        bool match = false;
        require(status == TWS_OK);
        enum tws_digest_algorithm algorithm = credentials.request.algorithm;
        char *name = allocate(credentials.username.value.length);
        size_t length;
        require(tws_digest_username(&credentials, name, &length, &err)
                == TWS_OK);
        require(tws_span_equal((struct tws_span){name, length}, client->user));
        require(tws_digest_ha1(algorithm, client->user, realm,
                               client->password, ha1, &err)
                == TWS_OK);
        require(tws_digest_verify(
                    &credentials,
                    (struct tws_span){ha1, tws_digest_hex_length(algorithm)},
                    &match, &err)
                == TWS_OK);
        require(match);
        free(name);
    }
    free(plain);
}

static void
fuzz_answer(const struct tws_auth_client *client, struct tws_span *challenges)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    enum tws_status status =
        tws_auth_answer(challenges, 2, client, &out, &err);
    if (status == TWS_OK) {
        check_answer(tws_buffer_span(&out), client);
    }
    else {
        require(status == TWS_REFUSED && tws_buffer_length(&out) == 0);
        require(err.http_status == 401 || err.http_status == 0);
    }
    (void)tws_auth_is_stale(challenges, 2);
    tws_buffer_release(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    struct input input = {.data = data + 1, .length = size - 1};
    struct tws_auth_client client = {
        .user = TWS_SPAN("J\xc3\xa4s\xc3\xb8n \"Doe\""),
        .password = TWS_SPAN("Circle of Life"),
        .method = TWS_SPAN("GET"),
        .target = TARGET,
        .cnonce = TWS_SPAN("0a4f113b"),
        .nonce_count = 1,
    };
    struct tws_span challenges[2];
    if ((data[0] & 1) != 0) {
        client.user = input_part(&input, '\0');
        client.password = input_part(&input, '\0');
        client.target = input_part(&input, '\0');
        client.cnonce = input_part(&input, '\0');
        client.nonce_count = data[0];
    }
    challenges[0] = input_part(&input, '\0');
    challenges[1] = input_rest(&input);
    check_value(challenges[0]);
    check_value(challenges[1]);
    fuzz_answer(&client, challenges);
    return 0;
}
