/* What the three programs share: a connection with one channel, and the order of publisher confirms. */

#ifndef LINK_H
#define LINK_H

#if __has_include(<rabbitmq-c/amqp.h>) /* from Debian 13 on */
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#endif
#include <stdbool.h>
#include <stdint.h>

#define CHANNEL 1

/* Connects to the broker of an amqp:// URL and opens CHANNEL; ends the program where that fails. */
amqp_connection_state_t link_open(const char *url);

/* Closes both; returns once the broker has taken all that was sent. */
void link_close(amqp_connection_state_t link);

/* Turns on publisher confirms on CHANNEL. */
void link_confirm(amqp_connection_state_t link);

/* Ends the program with status 1 and a message, like printf. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Ends the program where librabbitmq's answer is an error. */
void check(int status, const char *what);
void check_reply(amqp_rpc_reply_t reply, const char *what);

/* A number from the command line. */
uint64_t number(const char *text);

/* Which publishes are confirmed. They are numbered from 1; confirms come out of order and in multiples. */
struct confirms {
    uint64_t published; /* the number of the last publish */
    uint64_t confirmed; /* all up to this one are confirmed */
    uint64_t window;    /* no more than so many are under way: a power of two */
    bool *out_of_order; /* by number modulo window: confirmed, though one before it is not */
};

void confirms_init(struct confirms *confirms, uint64_t at_least);

/* Whether one more may be published. */
static inline bool confirms_room(const struct confirms *confirms) {
    return confirms->published - confirms->confirmed < confirms->window;
}

/* Takes in a frame that came on CHANNEL outside of a delivery: a confirm; ends the program on a nack, a return, or
 * anything else that is not expected. */
void confirms_take(struct confirms *confirms, const amqp_frame_t *frame);

/* Publishes persistently and mandatorily to a queue. */
void confirms_publish(struct confirms *confirms, amqp_connection_state_t link, amqp_bytes_t queue,
                      amqp_basic_properties_t *properties, amqp_bytes_t body);

#endif
