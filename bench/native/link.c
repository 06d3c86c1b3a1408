#include "link.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAME_BYTES 131072

void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

void check(int status, const char *what) {
    if (status < 0) die("%s: %s", what, amqp_error_string2(status));
}

void check_reply(amqp_rpc_reply_t reply, const char *what) {
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) return;
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) die("%s: %s", what, amqp_error_string2(reply.library_error));
    if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        amqp_channel_close_t *said = reply.reply.decoded;
        die("%s: channel closed: %.*s", what, (int)said->reply_text.len, (char *)said->reply_text.bytes);
    }
    if (reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
        amqp_connection_close_t *said = reply.reply.decoded;
        die("%s: connection closed: %.*s", what, (int)said->reply_text.len, (char *)said->reply_text.bytes);
    }
    die("%s: no answer", what);
}

uint64_t number(const char *text) {
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno || end == text || *end) die("not a number: %s", text);
    return value;
}

amqp_connection_state_t link_open(const char *url) {
    struct amqp_connection_info to;
    char *parsed = strdup(url); /* kept: `to` points into it */
    check(amqp_parse_url(parsed, &to), url);
    amqp_connection_state_t link = amqp_new_connection();
    amqp_socket_t *sock = amqp_tcp_socket_new(link);
    if (!sock) die("no socket");
    check(amqp_socket_open(sock, to.host, to.port), "connect");
    check_reply(amqp_login(link, to.vhost, 0, FRAME_BYTES, 0, AMQP_SASL_METHOD_PLAIN, to.user, to.password), "login");
    amqp_channel_open(link, CHANNEL);
    check_reply(amqp_get_rpc_reply(link), "open channel");
    return link;
}

void link_close(amqp_connection_state_t link) {
    check_reply(amqp_channel_close(link, CHANNEL, AMQP_REPLY_SUCCESS), "close channel");
    amqp_connection_close(link, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(link);
}

void link_confirm(amqp_connection_state_t link) {
    amqp_confirm_select(link, CHANNEL);
    check_reply(amqp_get_rpc_reply(link), "confirm.select");
}

void confirms_init(struct confirms *confirms, uint64_t at_least) {
    *confirms = (struct confirms){.window = 1};
    while (confirms->window < at_least) confirms->window *= 2;
    confirms->out_of_order = calloc(confirms->window, sizeof *confirms->out_of_order);
    if (!confirms->out_of_order) die("no memory");
}

static void advance(struct confirms *confirms) {
    bool *next;
    while (*(next = &confirms->out_of_order[(confirms->confirmed + 1) & (confirms->window - 1)])) {
        *next = false;
        confirms->confirmed++;
    }
}

static void confirmed(struct confirms *confirms, const amqp_basic_ack_t *ack) {
    if (ack->multiple) {
        for (; confirms->confirmed < ack->delivery_tag; confirms->confirmed++)
            confirms->out_of_order[(confirms->confirmed + 1) & (confirms->window - 1)] = false;
    } else {
        confirms->out_of_order[ack->delivery_tag & (confirms->window - 1)] = true;
    }
    advance(confirms);
}

void confirms_take(struct confirms *confirms, const amqp_frame_t *frame) {
    if (frame->frame_type != AMQP_FRAME_METHOD) die("unexpected frame of type %d", frame->frame_type);
    switch (frame->payload.method.id) {
        case AMQP_BASIC_ACK_METHOD: confirmed(confirms, frame->payload.method.decoded); break;
        case AMQP_BASIC_NACK_METHOD: die("a publish was refused"); break;
        case AMQP_BASIC_RETURN_METHOD: die("a publish came back: there is no such queue"); break;
        case AMQP_CHANNEL_CLOSE_METHOD: {
            amqp_channel_close_t *said = frame->payload.method.decoded;
            die("channel closed: %.*s", (int)said->reply_text.len, (char *)said->reply_text.bytes);
        }
        default: die("unexpected method %s", amqp_method_name(frame->payload.method.id));
    }
}

void confirms_publish(struct confirms *confirms, amqp_connection_state_t link, amqp_bytes_t queue,
                      amqp_basic_properties_t *properties, amqp_bytes_t body) {
    properties->_flags |= AMQP_BASIC_DELIVERY_MODE_FLAG;
    properties->delivery_mode = AMQP_DELIVERY_PERSISTENT;
    check(amqp_basic_publish(link, CHANNEL, amqp_empty_bytes, queue, true, false, properties, body), "publish");
    confirms->published++;
}
