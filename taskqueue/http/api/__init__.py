"""What clients say and are told: requests become data here, data becomes documents. Pure: no socket, book or clock."""
