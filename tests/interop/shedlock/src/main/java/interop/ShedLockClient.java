package interop;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import net.javacrumbs.shedlock.core.LockConfiguration;
import net.javacrumbs.shedlock.core.LockProvider;
import net.javacrumbs.shedlock.core.SimpleLock;
import net.javacrumbs.shedlock.provider.jdbctemplate.JdbcTemplateLockProvider;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.jdbc.datasource.SingleConnectionDataSource;

/**
 * Takes orders on standard input and answers each with a line. ShedLock is used as its documentation says: JDBC
 * template provider, database time.
 *
 * <pre>
 * lock NAME AT_MOST_MS AT_LEAST_MS      held or refused
 * extend NAME AT_MOST_MS AT_LEAST_MS    held or refused
 * unlock NAME                           ok
 * contend NAME MILLISECONDS             how often it held the lock, and how many it met inside at most
 * </pre>
 */
public final class ShedLockClient {
    private final JdbcTemplate jdbc;
    private final LockProvider provider;
    private final Map<String, SimpleLock> held = new HashMap<>();

    private ShedLockClient(String url, String user, String password) {
        jdbc = new JdbcTemplate(new SingleConnectionDataSource(url, user, password, true));
        provider = new JdbcTemplateLockProvider(
                JdbcTemplateLockProvider.Configuration.builder().withJdbcTemplate(jdbc).usingDbTime().build());
    }

    public static void main(String[] arguments) throws Exception {
        ShedLockClient client = new ShedLockClient(arguments[0], arguments[1], arguments[2]);
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        System.out.println("ready");
        for (String order = orders.readLine(); order != null; order = orders.readLine()) {
            String answer;
            try {
                answer = client.obey(order.split(" "));
            } catch (RuntimeException error) {
                answer = error.getClass().getSimpleName();
            }
            System.out.println(answer);
        }
    }

    private String obey(String[] order) {
        String name = order[1];
        return switch (order[0]) {
            case "lock" -> keep(name, provider.lock(terms(name, order[2], order[3])));
            case "extend" -> keep(name, held.remove(name).extend(millis(order[2]), millis(order[3])));
            case "unlock" -> {
                held.remove(name).unlock();
                yield "ok";
            }
            case "contend" -> contend(name, Long.parseLong(order[2]));
            default -> throw new IllegalArgumentException(order[0]);
        };
    }

    private String keep(String name, Optional<SimpleLock> lock) {
        lock.ifPresent(found -> held.put(name, found));
        return lock.isPresent() ? "held" : "refused";
    }

    private String contend(String name, long milliseconds) {
        long end = System.nanoTime() + milliseconds * 1_000_000;
        int times = 0;
        int most = 0;
        while (System.nanoTime() < end) {
            Optional<SimpleLock> lock = provider.lock(terms(name, "30000", "0"));
            if (lock.isPresent()) {
                most = Math.max(most, number("update meeting set inside = inside + 1 returning inside"));
                int count = number("select count from meeting");
                jdbc.update("update meeting set count = ?, inside = inside - 1", count + 1);
                times++;
                lock.get().unlock();
            }
        }
        return times + " " + most;
    }

    private int number(String query) {
        return jdbc.queryForObject(query, Integer.class);
    }

    private static LockConfiguration terms(String name, String atMost, String atLeast) {
        return new LockConfiguration(Instant.now(), name, millis(atMost), millis(atLeast));
    }

    private static Duration millis(String text) {
        return Duration.ofMillis(Long.parseLong(text));
    }
}
