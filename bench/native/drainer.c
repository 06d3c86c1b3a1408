/* Empties a queue, and says what was in it: of each message the correlation_id, or else the message_id, on a line.
 *
 *     drainer URL QUEUE COUNT [bodies]
 *
 * Takes COUNT messages. With `bodies`, a tab and the body follow the id; a body has no line feed in it.
 */

#include "link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print(amqp_bytes_t bytes) {
    fwrite(bytes.bytes, 1, bytes.len, stdout);
}

int main(int argc, char **argv) {
    bool bodies = argc == 5 && strcmp(argv[4], "bodies") == 0;
    if (argc != 4 && !bodies) die("usage: drainer URL QUEUE COUNT [bodies]");
    amqp_connection_state_t link = link_open(argv[1]);

    amqp_basic_consume(link, CHANNEL, amqp_cstring_bytes(argv[2]), amqp_empty_bytes, false, true, false,
                       amqp_empty_table);
    check_reply(amqp_get_rpc_reply(link), "consume");
    for (uint64_t left = number(argv[3]); left > 0; left--) {
        amqp_envelope_t envelope;
        amqp_maybe_release_buffers(link);
        check_reply(amqp_consume_message(link, &envelope, NULL, 0), "receive");
        const amqp_basic_properties_t *properties = &envelope.message.properties;
        if (properties->_flags & AMQP_BASIC_CORRELATION_ID_FLAG) print(properties->correlation_id);
        else if (properties->_flags & AMQP_BASIC_MESSAGE_ID_FLAG) print(properties->message_id);
        if (bodies) {
            putchar('\t');
            print(envelope.message.body);
        }
        putchar('\n');
        amqp_destroy_envelope(&envelope);
    }
    link_close(link);
    return EXIT_SUCCESS;
}
