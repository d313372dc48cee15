"""What others do with the same work on the same machine: queues on Redis, and the stores of Agent Lightning."""
