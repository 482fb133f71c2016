#include "protocol/digest.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

enum {
    NONCE_LENGTH = 16,
    SHA1_LENGTH = 20,
};

/* RFC 6455 §1.3. */
static const char GUID[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

enum tws_status
tws_accept_key(struct tws_span key, char out[TWS_ACCEPT_LENGTH],
               struct tws_error *err)
{
    enum tws_status status = TWS_OK;
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    char text[TWS_ACCEPT_LENGTH + 1];

    /* What libcrypto says about a failure must not stay on the thread's
     * queue, where the next TLS call would take it for its own. */
    (void)ERR_set_mark();
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (context == NULL || EVP_DigestInit_ex(context, EVP_sha1(), NULL) != 1
        || EVP_DigestUpdate(context, key.data, key.length) != 1
        || EVP_DigestUpdate(context, GUID, sizeof(GUID) - 1) != 1
        || EVP_DigestFinal_ex(context, digest, &length) != 1
        || length != SHA1_LENGTH) {
        status = tws_error_nomem(err);
        goto done;
    }
    /* EVP_EncodeBlock writes a NUL behind its text. */
    (void)EVP_EncodeBlock((unsigned char *)text, digest, SHA1_LENGTH);
    memcpy(out, text, TWS_ACCEPT_LENGTH);

done:
    EVP_MD_CTX_free(context);
    (void)ERR_pop_to_mark();
    return status;
}

void
tws_handshake_key(const uint8_t nonce[16], char out[TWS_KEY_LENGTH])
{
    char text[TWS_KEY_LENGTH + 1];
    (void)EVP_EncodeBlock((unsigned char *)text, nonce, NONCE_LENGTH);
    memcpy(out, text, TWS_KEY_LENGTH);
}

static bool
is_base64_byte(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')
           || (c >= '0' && c <= '9') || c == '+' || c == '/';
}

bool
tws_handshake_key_valid(struct tws_span key)
{
    /* 16 bytes are 22 digits and two of padding. The last digit's low four
     * bits mean nothing; RFC 6455 §4.2.1 asks for a value that decodes to
     * 16 bytes, so that they need not be zero. */
    if (key.length != TWS_KEY_LENGTH) {
        return false;
    }
    for (size_t i = 0; i < TWS_KEY_LENGTH - 2; i++) {
        if (!is_base64_byte(key.data[i])) {
            return false;
        }
    }
    return key.data[TWS_KEY_LENGTH - 2] == '='
           && key.data[TWS_KEY_LENGTH - 1] == '=';
}

bool
tws_equal_constant_time(struct tws_span a, struct tws_span b)
{
    return a.length == b.length
           && (a.length == 0 || CRYPTO_memcmp(a.data, b.data, a.length) == 0);
}
