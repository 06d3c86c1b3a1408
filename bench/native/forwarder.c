/* The limit: moves messages from one queue to another as fast as the broker lets a client, with the guarantee that
 * taskqueue gives.
 *
 *     forwarder URL FROM TO COUNT PREFETCH
 *
 * Publishes are persistent, mandatory and confirmed; a delivery is acked, in multiples, only after the confirm of its
 * publish. It looks at no body. Ends when COUNT deliveries are acked.
 */

#include "link.h"

#include <stdlib.h>

int main(int argc, char **argv) {
    if (argc != 6) die("usage: forwarder URL FROM TO COUNT PREFETCH");
    amqp_bytes_t from = amqp_cstring_bytes(argv[2]), to = amqp_cstring_bytes(argv[3]);
    uint64_t count = number(argv[4]), prefetch = number(argv[5]), acked = 0;
    uint64_t batch = prefetch / 4 ? prefetch / 4 : 1;
    amqp_connection_state_t link = link_open(argv[1]);
    struct confirms confirms;

    confirms_init(&confirms, prefetch);
    link_confirm(link);
    amqp_basic_qos(link, CHANNEL, 0, prefetch, false);
    check_reply(amqp_get_rpc_reply(link), "qos");
    amqp_basic_consume(link, CHANNEL, from, amqp_empty_bytes, false, false, false, amqp_empty_table);
    check_reply(amqp_get_rpc_reply(link), "consume");

    while (acked < count) {
        /* the channel is new: publish number and delivery tag are the same */
        uint64_t settled = confirms.confirmed;
        bool idle = !amqp_frames_enqueued(link) && !amqp_data_in_buffer(link);
        if (settled - acked >= batch || (settled > acked && (idle || settled >= count))) {
            check(amqp_basic_ack(link, CHANNEL, settled, true), "ack");
            acked = settled;
            continue;
        }
        amqp_frame_t frame;
        amqp_maybe_release_buffers(link);
        check(amqp_simple_wait_frame(link, &frame), "receive");
        if (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_DELIVER_METHOD) {
            confirms_take(&confirms, &frame);
            continue;
        }
        amqp_message_t message;
        check_reply(amqp_read_message(link, CHANNEL, &message, 0), "read");
        confirms_publish(&confirms, link, to, &message.properties, message.body);
        amqp_destroy_message(&message);
    }
    link_close(link);
    return EXIT_SUCCESS;
}
