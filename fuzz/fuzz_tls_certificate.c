/* A certificate in DER: what is read of it is text that can be shown. */
#include "input.h"
#include "net/tls_certificate.h"
#include "protocol/utf8.h"

#include <openssl/err.h>

static void
check_text(const char *text)
{
    require(text != NULL
            && tws_utf8_valid((const uint8_t *)text, strlen(text)));
}

static void
check_printable(const char *text)
{
    require(text != NULL);
    for (; *text != '\0'; text++) {
        require(*text > 0x20 && *text < 0x7f);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tws_certificate certificate;
    struct tws_error err = {0};
    enum tws_status status =
        tws_certificate_parse(data, size, &certificate, &err);
    require(ERR_peek_error() == 0);
    if (status != TWS_OK) {
        require(status == TWS_TLS && err.reason[0] != '\0');
        require(certificate.subject == NULL && certificate.name_count == 0);
        return 0;
    }
    check_text(certificate.subject);
    check_text(certificate.issuer);
    check_printable(certificate.serial);
    for (size_t i = 0; i < certificate.name_count; i++) {
        check_printable(certificate.names[i].text);
    }
    tws_certificate_release(&certificate);
    require(certificate.names == NULL);
    return 0;
}
