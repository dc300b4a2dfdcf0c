<?php
// Usage: php example.php PATH...   publishes the paths and waits for all targets.
// FASTSYNC_REDIS_HOST and FASTSYNC_REDIS_PORT say where Redis is (127.0.0.1, 6379);
// FASTSYNC_NAME is the root's name (media).

declare(strict_types=1);

require __DIR__ . '/fastsync.php';

$paths = array_slice($argv, 1);
if ($paths === []) {
    fwrite(STDERR, "usage: php example.php PATH...\n");
    exit(2);
}

$redis = new Redis();
$redis->connect(getenv('FASTSYNC_REDIS_HOST') ?: '127.0.0.1', (int) (getenv('FASTSYNC_REDIS_PORT') ?: 6379), 2.0);

$fastsync = new Fastsync($redis, getenv('FASTSYNC_NAME') ?: 'media');
$ref = 'example-' . bin2hex(random_bytes(4));
$begun = microtime(true);

if ($fastsync->publish($paths, $ref) === 0) {
    fwrite(STDERR, "no fastsync agent is listening\n");
    exit(1);
}
if (!$fastsync->wait($ref)) {
    fwrite(STDERR, $fastsync->lastError() . "\n");
    exit(1);
}
printf("%d paths on all targets after %.1f ms\n", count($paths), (microtime(true) - $begun) * 1000);
