#include "protocol/deflate_frame.h"

#define MAX_WINDOW_BITS TWS_SPAN("max_window_bits")
#define NO_CONTEXT_TAKEOVER TWS_SPAN("no_context_takeover")

enum tws_status
tws_deflate_frame_read(struct tws_deflate_frame *params,
                       const struct tws_extension_param *param,
                       struct tws_error *err)
{
    if (tws_span_equal(param->name, MAX_WINDOW_BITS)) {
        return tws_deflate_read_bits(param, false, &params->max_window_bits,
                                     err);
    }
    if (tws_span_equal(param->name, NO_CONTEXT_TAKEOVER)) {
        return tws_deflate_read_flag(param, &params->no_context_takeover, err);
    }
    return tws_deflate_unknown_param(param, err);
}

size_t
tws_deflate_frame_list(
    const struct tws_deflate_frame *params,
    struct tws_extension_param list[TWS_DEFLATE_FRAME_PARAMS])
{
    size_t count = 0;
    tws_deflate_list_bits(list, &count, MAX_WINDOW_BITS,
                          params->max_window_bits);
    tws_deflate_list_flag(list, &count, NO_CONTEXT_TAKEOVER,
                          params->no_context_takeover);
    return count;
}

struct tws_compression_terms
tws_deflate_frame_agree(const struct tws_deflate_frame_settings *settings,
                        const struct tws_deflate_frame *theirs)
{
    const struct tws_deflate_frame *ours = &settings->asked;
    struct tws_compression_terms terms = {
        .out = settings->out,
        .in_window_bits = ours->max_window_bits == TWS_WINDOW_BITS_NONE
                              ? TWS_WINDOW_BITS_MAX
                              : ours->max_window_bits,
        .per_frame = true,
        .out_takeover = settings->out_takeover && !theirs->no_context_takeover,
        .in_takeover = !ours->no_context_takeover,
        .threshold = settings->threshold,
    };
    terms.out.window_bits = tws_deflate_smaller_bits(settings->out.window_bits,
                                                     theirs->max_window_bits);
    return terms;
}
